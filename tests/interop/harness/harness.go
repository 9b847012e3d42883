// Package harness is what the stories of published clients share.
//
// The node, and the driver's configuration in INTEROP_CONFIG, come from tests/interop.rs. That also
// answers what is asked on standard output: a line "@restart" has the node killed and started again
// on the same port, and "ready" on standard input says that it serves.
//
// A driver is used as an Atomix proxy uses it: Connect, then one server object a primitive. The
// proxy's own gRPC server is left out, and with it the 2022 driver's habit of writing to one of its
// streams from many goroutines.
//
// Waiting is for an event, with a deadline. Absent on purpose: a node of its own, and any driver,
// for those of two generations cannot be in one program.
package harness

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

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Patience bounds every call and every wait: long, for a machine that is busy with other tests.
const Patience = 60 * time.Second

// Config is the text that `ringraft driver-config` printed.
func Config(t testing.TB) []byte {
	t.Helper()
	text, given := os.LookupEnv("INTEROP_CONFIG")
	if !given {
		t.Skip("INTEROP_CONFIG is not set: run `cargo test --test interop`")
	}
	return []byte(text)
}

// Lasting is the same with sessions that outlive every test: what they held and give up, they gave
// up because they were closed. And none of them sends a keep-alive while it is closed, for which the
// client of 2023 would end its process.
func Lasting(t testing.TB) []byte {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(Config(t), &all); err != nil {
		t.Fatal(err)
	}
	all["session_timeout"] = time.Hour
	return Must(json.Marshal(all))(t)
}

// known is what the tests have to know of the configuration as well.
func known(t testing.TB) (known struct {
	SessionTimeout time.Duration `json:"session_timeout"`
	Partitions     []json.RawMessage
}) {
	t.Helper()
	if err := json.Unmarshal(Config(t), &known); err != nil {
		t.Fatal(err)
	}
	if known.SessionTimeout == 0 || len(known.Partitions) < 2 {
		t.Fatalf("not what the tests are made for: %s", Config(t))
	}
	return known
}

// SessionTimeout is how long the node keeps a silent driver's sessions.
func SessionTimeout(t testing.TB) time.Duration { return known(t).SessionTimeout }

// Neighbour is one of many keys that the driver keeps in the same partition, so that one listener's
// events of them have an order.
func Neighbour(t testing.TB, number int) string {
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

// Calling is a context for the calls of one test.
func Calling(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Must is the result of a call that has to succeed.
func Must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// Refused takes a call that has to fail with one code.
func Refused(t testing.TB, want codes.Code) func(any, error) {
	return func(value any, err error) {
		t.Helper()
		if status.Code(err) != want {
			t.Fatalf("%v, %v instead of %v", value, err, want)
		}
	}
}

// Equal compares what is to be the same.
func Equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v instead of %v", what, got, want)
	}
}

// Sink is the stream on which a driver tells a proxy's client of events.
type Sink[T any] struct {
	grpc.ServerStream
	ctx   context.Context
	items chan T
}

// Context ends with the test.
func (s *Sink[T]) Context() context.Context { return s.ctx }

// Send takes what a driver tells.
func (s *Sink[T]) Send(item T) error {
	select {
	case s.items <- item:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// Stream is a streaming call that goes on until the test ends or the node ends it.
type Stream[T any] struct {
	t      testing.TB
	items  chan T
	ended  chan error
	cancel context.CancelFunc
}

// Streaming begins one; call is the driver's method with its request.
func Streaming[T any](t testing.TB, call func(*Sink[T]) error) *Stream[T] {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s := &Stream[T]{t, make(chan T, 4096), make(chan error, 1), cancel}
	go func() { s.ended <- call(&Sink[T]{ctx: ctx, items: s.items}) }()
	return s
}

// Next is the next item.
func (s *Stream[T]) Next() T {
	s.t.Helper()
	item, arrived := s.within(Patience)
	if !arrived {
		s.t.Fatal("no event")
	}
	return item
}

func (s *Stream[T]) within(most time.Duration) (item T, arrived bool) {
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

// Settle waits until the node knows of the listener, which nothing tells: it makes changes until
// one of them is told, and leaves the stream behind that one.
func (s *Stream[T]) Settle(change func(round int), tells func(item T, round int) bool) {
	s.t.Helper()
	deadline := time.Now().Add(Patience)
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

// All is every item of a stream that ends by itself.
func All[T any](t testing.TB, call func(*Sink[T]) error) []T {
	t.Helper()
	s := Streaming(t, call)
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
		case <-time.After(Patience):
			t.Fatal("the stream does not end")
		}
	}
}

// Background is a call that goes on beside the test.
func Background[T any](call func() (T, error)) func(testing.TB) T {
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
			return Must(got.value, got.err)(t)
		case <-time.After(Patience):
			t.Fatal("no answer")
			panic("unreachable")
		}
	}
}

// Wire is a network that can be cut, as if the driver's host had gone.
type Wire struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

// Listen is never asked for.
func (w *Wire) Listen(string) (net.Listener, error) { return nil, errors.New("nobody listens") }

// Connect makes a connection that can be cut.
func (w *Wire) Connect(ctx context.Context, address string) (net.Conn, error) {
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

// Cut ends all connections, and those that are made until it is mended.
func (w *Wire) Cut(t testing.TB) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for _, conn := range w.conns {
		if err := conn.Close(); err != nil {
			t.Log(err)
		}
	}
	w.conns = nil
}

// Mend lets connections be made again.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

var standardInput = bufio.NewReader(os.Stdin)

// Restart has the node killed and started again.
func Restart(t testing.TB) {
	t.Helper()
	fmt.Println("\n@restart")
	line, err := standardInput.ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("%q instead of ready: %v", line, err)
	}
}
