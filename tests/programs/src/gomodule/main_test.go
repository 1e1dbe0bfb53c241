package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestSum(t *testing.T) {
	words := make([]string, 500)
	for i := range words {
		words[i] = fmt.Sprint(i)
	}
	if got := Sum(words); got != 124750 {
		t.Fatalf("got %d", got)
	}
}

func TestParallel(t *testing.T) {
	for i := 0; i < 8; i++ {
		i := i
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(name, make([]byte, 1000*i), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("wc", "-c", name).Output()
			if err != nil || string(out[:1]) != fmt.Sprint(1000 * i)[:1] {
				t.Fatalf("%q %v", out, err)
			}
		})
	}
}

func TestTimer(t *testing.T) {
	select {
	case <-time.After(time.Millisecond):
	case <-time.After(time.Minute):
		t.Fatal("late")
	}
}
