//go:build tools

// Package tools names the command that the test cluster is built from, so that go.mod keeps it.
package tools

import _ "go.etcd.io/etcd/server/v3"
