// An HTTP/2 server and its client in one program; prints what each answered.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

func main() {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	plan := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, plan, plan, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert := tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, _ := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%s %d %x", r.Proto, n, sum.Sum(nil)[:4])
	})
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, strings.NewReader(strings.Repeat("b", 3000000)))
	})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := &http.Server{Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	go server.ServeTLS(listener, "", "")
	base := "https://" + listener.Addr().String()
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	var wait sync.WaitGroup
	answers := make([]string, 40)
	for i := range answers {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			r, err := client.Post(base+"/echo", "text/plain", strings.NewReader(strings.Repeat("x", i*10000)))
			if err != nil {
				answers[i] = err.Error()
				return
			}
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			answers[i] = string(body)
		}(i)
	}
	wait.Wait()
	for _, a := range answers {
		fmt.Println(a)
	}
	r, err := client.Get(base + "/big")
	if err != nil {
		panic(err)
	}
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Println(r.Proto, n)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	q, _ := http.NewRequestWithContext(ctx, "GET", base+"/hang", nil)
	_, err = client.Do(q)
	fmt.Println(strings.Contains(fmt.Sprint(err), "deadline"))
	cancel()
	fmt.Println(server.Shutdown(context.Background()))
}
