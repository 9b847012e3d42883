// Package multiraft runs the published multi-raft driver of 2022, unchanged, against a node.
package multiraft

import (
	"context"
	"testing"

	"github.com/atomix/multi-raft-storage/driver"
	runtimev1 "github.com/atomix/runtime/api/atomix/runtime/v1"
	"github.com/atomix/runtime/sdk/pkg/runtime"

	. "ringraft.test/interop/harness"
)

// TestDriver is one story, for a process has few drivers: each that is closed leaves goroutines
// that spin (README.md), so that closing comes last.
func TestDriver(t *testing.T) {
	conn := connect(t, runtime.NewNetwork(), Config(t))
	other := connect(t, runtime.NewNetwork(), Config(t))
	for _, part := range []struct {
		name string
		run  func(testing.TB, runtime.Conn, runtime.Conn)
	}{
		{"counter", counter},
		{"countermap", counterMap},
		{"election", election},
		{"indexedmap", indexedMap},
		{"lock", lock},
		{"map", keyed},
		{"multimap", multiMap},
		{"set", set},
		{"value", value},
		{"alive", alive},
		{"busy", busy},
		{"silent", silent},
		{"restart", restarted},
		{"closed", closed},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, conn, other) })
	}
}

// connect is what a proxy does with its store's configuration.
func connect(t testing.TB, network runtime.Network, config []byte) runtime.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return Must(driver.New(network).Connect(ctx, config))(t)
}

// id names a primitive. The driver keeps them by name only, whatever their kind: so no two kinds
// have the same.
func id(name string) runtimev1.PrimitiveId { return runtimev1.PrimitiveId{Name: name} }
