// A program of a module: adds what it is given, one goroutine for each number.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
)

// Sum adds the numbers that parse.
func Sum(words []string) int {
	var mu sync.Mutex
	var wg sync.WaitGroup
	sum := 0
	for _, w := range words {
		wg.Add(1)
		go func(w string) {
			defer wg.Done()
			n, err := strconv.Atoi(w)
			if err != nil {
				return
			}
			mu.Lock()
			sum += n
			mu.Unlock()
		}(w)
	}
	wg.Wait()
	return sum
}

func main() { fmt.Println("sum", Sum(os.Args[1:])) }
