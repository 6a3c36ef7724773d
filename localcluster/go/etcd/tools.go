//go:build tools

// Package tools names the commands built from this module, so that go.mod and go.sum hold what they need.
package tools

import _ "go.etcd.io/etcd/server/v3"
