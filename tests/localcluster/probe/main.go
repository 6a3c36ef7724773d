// probe is the one program of the image the tests run in pods.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(command string, arguments []string) error {
	switch command {
	case "serve": // answers with the name of its pod, after writing that it does into a file of the volume
		name, _ := os.Hostname()
		if len(arguments) > 0 {
			if err := os.WriteFile(arguments[0], []byte(name+"\n"), 0o600); err != nil {
				return err
			}
		}
		fmt.Println("serving as", name, "uid", os.Getuid())
		return http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
	case "read":
		content, err := os.ReadFile(arguments[0])
		fmt.Print(string(content))
		return err
	case "lookup":
		addresses, err := net.DefaultResolver.LookupHost(context.Background(), arguments[0])
		fmt.Println(addresses)
		return err
	case "get":
		client := http.Client{Timeout: 3 * time.Second}
		answer, err := client.Get(arguments[0])
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		content, err := io.ReadAll(answer.Body)
		fmt.Print(string(content))
		return err
	case "connect":
		connection, err := net.DialTimeout("tcp", arguments[0], 3*time.Second)
		if err != nil {
			return err
		}
		fmt.Println("connected to", connection.RemoteAddr())
		return connection.Close()
	}
	return fmt.Errorf("no command %s", command)
}
