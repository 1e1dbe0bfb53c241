// Many goroutines, channels, timers, file and process work, in one static binary.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func primes(n int) int {
	ch := make(chan int)
	go func() {
		for i := 2; ; i++ {
			ch <- i
		}
	}()
	p := 0
	for i := 0; i < n; i++ {
		p = <-ch
		next := make(chan int)
		go func(in, out chan int, p int) {
			for {
				if v := <-in; v%p != 0 {
					out <- v
				}
			}
		}(ch, next, p)
		ch = next
	}
	return p
}

func main() {
	fmt.Println(len(os.Args), os.Args[1:])
	var wg sync.WaitGroup
	var sum atomic.Int64
	for i := 0; i < 2000; i++ {
		i := i // Before Go 1.22 all turns share one variable.
		wg.Add(1)
		go func() {
			defer wg.Done()
			runtime.Gosched()
			sum.Add(int64(i))
		}()
	}
	wg.Wait()
	fmt.Println(sum.Load(), primes(100))

	var live [][]byte
	for i := 0; i < 200; i++ {
		live = append(live, make([]byte, 100000))
		if i%50 == 0 {
			runtime.GC()
			live = live[len(live)/2:]
		}
	}
	fmt.Println(len(live) > 0)

	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println(<-c)

	select {
	case <-time.After(10 * time.Millisecond):
		fmt.Println("timer")
	}
	for i := 0; i < 20; i++ {
		i := i
		wg.Add(1)
		go func() {
			defer wg.Done()
			name := fmt.Sprintf("file%d", i)
			if err := os.WriteFile(name, []byte(name), 0o644); err != nil {
				fmt.Println(err)
			}
		}()
	}
	wg.Wait()
	entries, err := os.ReadDir(".")
	fmt.Println(len(entries) >= 20, err)
	out, err := exec.Command("echo", "from a child").Output()
	fmt.Printf("%s%v\n", out, err)
	r, w, _ := os.Pipe()
	go func() {
		for i := 0; i < 1000; i++ {
			fmt.Fprintln(w, i)
		}
		w.Close()
	}()
	lines := 0
	for s := bufio.NewScanner(r); s.Scan(); {
		lines++
	}
	fmt.Println(lines)
	defer func() { fmt.Println("recovered:", recover()) }()
	var p *int
	fmt.Println(*p)
}
