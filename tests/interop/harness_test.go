// Package interop runs the published multi-raft driver, unchanged, against a ringraft node.
//
// The node, and the driver's configuration in INTEROP_CONFIG, come from tests/interop.rs. That also
// answers what is asked on standard output: a line "@restart" has the node killed and started again
// on the same port, and "ready" on standard input says that it serves.
//
// The driver is used as an Atomix proxy uses it: Connect, then one server object a primitive. The
// proxy's own gRPC server is left out, and with it the driver's habit of writing to one of its
// streams from many goroutines.
//
// Waiting is for an event, with a deadline. Absent on purpose: a node of its own.
package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/atomix/multi-raft-storage/driver"
	"github.com/atomix/runtime/sdk/pkg/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// patience bounds every call and every wait: long, for a machine that is busy with other tests.
const patience = 60 * time.Second

// connect is what a proxy does with its store's configuration.
func connect(t testing.TB, network runtime.Network) runtime.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return must(driver.New(network).Connect(ctx, config(t)))(t)
}

// config is the text that `ringraft driver-config` printed.
func config(t testing.TB) []byte {
	t.Helper()
	text, given := os.LookupEnv("INTEROP_CONFIG")
	if !given {
		t.Skip("INTEROP_CONFIG is not set: run `cargo test --test interop`")
	}
	return []byte(text)
}

// known is what the tests have to know of the configuration as well.
func known(t testing.TB) (known struct {
	SessionTimeout time.Duration `json:"session_timeout"`
	Partitions     []json.RawMessage
}) {
	t.Helper()
	if err := json.Unmarshal(config(t), &known); err != nil {
		t.Fatal(err)
	}
	if known.SessionTimeout == 0 || len(known.Partitions) < 2 {
		t.Fatalf("not what the tests are made for: %s", config(t))
	}
	return known
}

// sessionTimeout is how long the node keeps a silent driver's sessions.
func sessionTimeout(t testing.TB) time.Duration { return known(t).SessionTimeout }

// neighbour is one of many keys that the driver keeps in the same partition, so that one listener's
// events of them have an order.
func neighbour(t testing.TB, number int) string {
	for i, partitions := 0, len(known(t).Partitions); ; i++ {
		key, hash := fmt.Sprint("key ", i), fnv.New32a()
		hash.Write([]byte(key))
		if hash.Sum32()%uint32(partitions) != 0 {
			continue
		}
		if number == 0 {
			return key
		}
		number--
	}
}

// calling is a context for the calls of one test.
func calling(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// must is the result of a call that has to succeed.
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// refused takes a call that has to fail with one code.
func refused(t testing.TB, want codes.Code) func(any, error) {
	return func(value any, err error) {
		t.Helper()
		if status.Code(err) != want {
			t.Fatalf("%v, %v instead of %v", value, err, want)
		}
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v instead of %v", what, got, want)
	}
}

// sink is the stream on which a driver tells a proxy's client of events.
type sink[T any] struct {
	grpc.ServerStream
	ctx   context.Context
	items chan T
}

func (s *sink[T]) Context() context.Context { return s.ctx }

func (s *sink[T]) Send(item T) error {
	select {
	case s.items <- item:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// stream is a streaming call that goes on until the test ends or the node ends it.
type stream[T any] struct {
	t      testing.TB
	items  chan T
	ended  chan error
	cancel context.CancelFunc
}

// streaming begins one; call is the driver's method with its request.
func streaming[T any](t testing.TB, call func(*sink[T]) error) *stream[T] {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s := &stream[T]{t, make(chan T, 4096), make(chan error, 1), cancel}
	go func() { s.ended <- call(&sink[T]{ctx: ctx, items: s.items}) }()
	return s
}

// next is the next item.
func (s *stream[T]) next() T {
	s.t.Helper()
	item, arrived := s.within(patience)
	if !arrived {
		s.t.Fatal("no event")
	}
	return item
}

func (s *stream[T]) within(most time.Duration) (item T, arrived bool) {
	s.t.Helper()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case item = <-s.items:
		return item, true
	case err := <-s.ended:
		s.t.Fatalf("the stream ended: %v", err)
	case <-timer.C:
	}
	return item, false
}

// settle waits until the node knows of the listener, which nothing tells: it makes changes until
// one of them is told, and leaves the stream behind that one.
func (s *stream[T]) settle(change func(round int), tells func(item T, round int) bool) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for round := 1; time.Now().Before(deadline); round++ {
		change(round)
		for {
			item, arrived := s.within(250 * time.Millisecond)
			if !arrived {
				break
			}
			if tells(item, round) {
				return
			}
		}
	}
	s.t.Fatal("no event of any change")
}

// all is every item of a stream that ends by itself.
func all[T any](t testing.TB, call func(*sink[T]) error) []T {
	t.Helper()
	s := streaming(t, call)
	var items []T
	for {
		select {
		case item := <-s.items:
			items = append(items, item)
		case err := <-s.ended:
			if err != nil {
				t.Fatal(err)
			}
			for len(s.items) > 0 {
				items = append(items, <-s.items)
			}
			return items
		case <-time.After(patience):
			t.Fatal("the stream does not end")
		}
	}
}

// background is a call that goes on beside the test.
func background[T any](call func() (T, error)) func(testing.TB) T {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := call()
		done <- outcome{value, err}
	}()
	return func(t testing.TB) T {
		t.Helper()
		select {
		case got := <-done:
			return must(got.value, got.err)(t)
		case <-time.After(patience):
			t.Fatal("no answer")
			panic("unreachable")
		}
	}
}

// wire is a network that can be cut, as if the driver's host had gone.
type wire struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (w *wire) Listen(string) (net.Listener, error) { return nil, errors.New("nobody listens") }

func (w *wire) Connect(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && w.cut {
		err = errors.Join(errors.New("the wire is cut"), conn.Close())
	}
	if err == nil {
		w.conns = append(w.conns, conn)
	}
	return conn, err
}

func (w *wire) set(t testing.TB, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	for _, conn := range w.conns {
		if err := conn.Close(); err != nil {
			t.Log(err)
		}
	}
	w.conns = nil
}

var standardInput = bufio.NewReader(os.Stdin)

// restart has the node killed and started again.
func restart(t testing.TB) {
	t.Helper()
	fmt.Println("\n@restart")
	line, err := standardInput.ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("%q instead of ready: %v", line, err)
	}
}
