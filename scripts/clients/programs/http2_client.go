// The requests of a plan by net/http, all at once; see http2_plan.py. Over TLS it is the client that
// Go's programs have, without TLS golang.org/x/net/http2.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2"
)

func main() {
	base, authority := os.Args[1], os.Args[2]
	client := &http.Client{Transport: transport(base, authority)}
	var plan []string
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		plan = append(plan, lines.Text())
	}
	results := make([]string, len(plan))
	places := make(chan bool, 64)
	var all sync.WaitGroup
	for number, line := range plan {
		all.Add(1)
		places <- true
		go func(number int, line string) {
			defer all.Done()
			results[number] = ask(client, base, strings.Split(line, "\t"))
			<-places
		}(number, line)
	}
	all.Wait()
	fmt.Println(strings.Join(results, "\n"))
}

func transport(base, authority string) http.RoundTripper {
	if strings.HasPrefix(base, "http:") {
		dial := func(network, address string, _ *tls.Config) (net.Conn, error) { return net.Dial(network, address) }
		return &http2.Transport{AllowHTTP: true, DialTLS: dial, DisableCompression: true}
	}
	pem, _ := os.ReadFile(authority)
	known := x509.NewCertPool()
	known.AppendCertsFromPEM(pem)
	return &http.Transport{
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{RootCAs: known},
	}
}

func ask(client *http.Client, base string, line []string) string {
	method, path, size := line[0], line[1], line[2]
	cancelled := method == "CANCEL"
	if cancelled {
		method = "GET"
	}
	length, _ := strconv.Atoi(size)
	context, cancel := context.WithCancel(context.Background())
	defer cancel()
	var body io.Reader
	if length > 0 {
		body = strings.NewReader(strings.Repeat("x", length))
	}
	request, err := http.NewRequestWithContext(context, method, base+path, body)
	if err != nil {
		return "error\t" + err.Error()
	}
	for _, field := range line[3:] {
		name, value, _ := strings.Cut(field, ": ")
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return "error\t" + err.Error()
	}
	defer response.Body.Close()
	hash := sha256.New()
	var count int64
	if cancelled {
		count, err = io.CopyN(hash, response.Body, 1)
	} else {
		count, err = io.Copy(hash, response.Body)
	}
	if err != nil {
		return "error\t" + err.Error()
	}
	fields := []string{response.Proto, strconv.Itoa(response.StatusCode), strconv.FormatInt(count, 10)}
	fields = append(fields, fmt.Sprintf("%x", hash.Sum(nil)))
	for _, name := range []string{"Etag", "Content-Range", "Content-Length"} {
		fields = append(fields, response.Header.Get(name))
	}
	return strings.Join(fields, "\t")
}
