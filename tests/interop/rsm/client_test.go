// Package rsm runs the client of the last Atomix drivers (2023), unchanged, against a node: what
// differs from the driver of 2022. That is the opening event of a stream, the results of sets, the
// transactions of maps, and the codes of errors.
//
// Absent on purpose: an expired session. The client ends its process when it is told of one.
package rsm

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atomix/atomix/api/errors"
	counterv1 "github.com/atomix/atomix/api/runtime/counter/v1"
	lockv1 "github.com/atomix/atomix/api/runtime/lock/v1"
	mapv1 "github.com/atomix/atomix/api/runtime/map/v1"
	setv1 "github.com/atomix/atomix/api/runtime/set/v1"
	runtimev1 "github.com/atomix/atomix/api/runtime/v1"
	protocol "github.com/atomix/atomix/protocols/rsm/api/v1"
	"github.com/atomix/atomix/protocols/rsm/pkg/client"
	counterclient "github.com/atomix/atomix/protocols/rsm/pkg/client/counter/v1"
	lockclient "github.com/atomix/atomix/protocols/rsm/pkg/client/lock/v1"
	mapclient "github.com/atomix/atomix/protocols/rsm/pkg/client/map/v1"
	setclient "github.com/atomix/atomix/protocols/rsm/pkg/client/set/v1"
	"github.com/atomix/atomix/runtime/pkg/network"

	. "ringraft.test/interop/harness"
)

// TestClient is one story: clients that are closed leave goroutines that spin.
func TestClient(t *testing.T) {
	mine, theirs := connect(t, Config(t)), connect(t, Config(t))
	for _, part := range []struct {
		name string
		run  func(testing.TB, *client.ProtocolClient, *client.ProtocolClient)
	}{
		{"map", keyed},
		{"transactions", transactions},
		{"set", set},
		{"kinds", kinds},
		{"alive", alive},
		{"restart", restarted},
		{"closed", closed},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, mine, theirs) })
	}
}

// connect is what the driver of 2023 does with its configuration.
func connect(t testing.TB, text []byte) *client.ProtocolClient {
	t.Helper()
	var config protocol.ProtocolConfig
	Must(0, json.Unmarshal(text, &config))(t)
	c := client.NewClient(network.NewDefaultDriver())
	Must(0, c.Connect(Calling(t), config))(t)
	return c
}

func id(name string) runtimev1.PrimitiveID { return runtimev1.PrimitiveID{Name: name} }

// refused takes a call that has to fail in one way.
func refused(t testing.TB, is func(error) bool) func(any, error) {
	return func(value any, err error) {
		t.Helper()
		if !is(err) {
			t.Fatalf("%v, %v", value, err)
		}
	}
}

func openMap(t testing.TB, c *client.ProtocolClient, name string) *mapclient.MapSession {
	t.Helper()
	m := mapclient.NewMap(c.Protocol, id(name))
	Must(0, m.Open(Calling(t)))(t)
	return m
}

// mapEvents returns when each partition has said that it knows of the listener.
func mapEvents(t testing.TB, c *client.ProtocolClient, m *mapclient.MapSession, name string) *Stream[*mapv1.EventsResponse] {
	t.Helper()
	events := Streaming(t, func(s *Sink[*mapv1.EventsResponse]) error {
		return m.Events(&mapv1.EventsRequest{ID: id(name)}, s)
	})
	for range c.Partitions() {
		if opening := events.Next().Event; opening.Event != nil {
			t.Fatalf("%v before the opening event", opening)
		}
	}
	return events
}

func keyed(t testing.TB, mine, theirs *client.ProtocolClient) {
	ctx, id, name := Calling(t), id("map"), "map"
	m, other := openMap(t, mine, name), openMap(t, theirs, name)
	events := mapEvents(t, theirs, other, name)
	version := Must(m.Put(ctx, &mapv1.PutRequest{ID: id, Key: "a", Value: []byte("1")}))(t).Version
	Equal(t, "event of put", events.Next().Event.GetInserted().Value.Version, version)
	refused(t, errors.IsConflict)(m.Put(ctx, &mapv1.PutRequest{ID: id, Key: "a", Value: []byte("2"), PrevVersion: version + 1}))
	refused(t, errors.IsConflict)(m.Put(ctx, &mapv1.PutRequest{ID: id, Key: "absent", Value: []byte("2"), PrevVersion: 1}))
	refused(t, errors.IsAlreadyExists)(m.Insert(ctx, &mapv1.InsertRequest{ID: id, Key: "a"}))
	Must(m.Put(ctx, &mapv1.PutRequest{ID: id, Key: "a", Value: []byte("2"), PrevVersion: version}))(t)
	Equal(t, "event of update", events.Next().Event.GetUpdated().PrevValue.Version, version)
	Must(m.Remove(ctx, &mapv1.RemoveRequest{ID: id, Key: "a"}))(t)
	Equal(t, "event of removal", string(events.Next().Event.GetRemoved().Value.Value), "2")
	refused(t, errors.IsNotFound)(other.Get(ctx, &mapv1.GetRequest{ID: id, Key: "a"}))
	soon := 300 * time.Millisecond
	Must(m.Insert(ctx, &mapv1.InsertRequest{ID: id, Key: "a", TTL: &soon}))(t)
	Equal(t, "event of insert", events.Next().Event.GetInserted() != nil, true)
	Equal(t, "event of expiry", events.Next().Event.GetRemoved().Expired, true)
	refused(t, errors.IsNotSupported)(m.Lock(ctx, &mapv1.LockRequest{ID: id, Keys: []string{"a"}}))
	for i := range 20 {
		Must(m.Put(ctx, &mapv1.PutRequest{ID: id, Key: fmt.Sprint("k", i)}))(t)
	}
	Equal(t, "size", Must(other.Size(ctx, &mapv1.SizeRequest{ID: id}))(t).Size_, 20)
	entries := All(t, func(s *Sink[*mapv1.EntriesResponse]) error {
		return other.Entries(&mapv1.EntriesRequest{ID: id}, s)
	})
	Equal(t, "entries", len(entries), 20)
}

type (
	operation = mapv1.CommitRequest_Operation
	opPut     = mapv1.CommitRequest_Operation_Put
	opInsert  = mapv1.CommitRequest_Operation_Insert
	opUpdate  = mapv1.CommitRequest_Operation_Update
	opRemove  = mapv1.CommitRequest_Operation_Remove
)

func transactions(t testing.TB, mine, theirs *client.ProtocolClient) {
	ctx, id, name := Calling(t), id("transactions"), "transactions"
	m, other := openMap(t, mine, name), openMap(t, theirs, name)
	put := func(key, value string) operation {
		return operation{Operation: &opPut{Put: &mapv1.CommitRequest_Put{Key: key, Value: []byte(value)}}}
	}
	commit := func(operations ...operation) (*mapv1.CommitResponse, error) {
		return m.Commit(ctx, &mapv1.CommitRequest{ID: id, Operations: operations})
	}
	get := func(key string) string {
		t.Helper()
		return string(Must(other.Get(ctx, &mapv1.GetRequest{ID: id, Key: key}))(t).Value.Value)
	}
	// In one partition: Apply. The first and the second have one version.
	a, b := Neighbour(t, 0), Neighbour(t, 1)
	results := Must(commit(put(a, "1"), put(b, "1")))(t).Results
	first := results[0].GetPut().Version
	Equal(t, "one version", results[1].GetPut().Version, first)
	Equal(t, "both", get(a)+get(b), "11")
	refused(t, errors.IsConflict)(commit(put(a, "2"), put(a, "3")))
	refused(t, errors.IsAlreadyExists)(commit(put(a, "2"), operation{Operation: &opInsert{Insert: &mapv1.CommitRequest_Insert{Key: b}}}))
	Equal(t, "all or nothing", get(a), "1")

	// In all partitions: Prepare, then Commit or Abort.
	var many []operation
	for i := range 12 {
		many = append(many, put(fmt.Sprint("m", i), "1"))
	}
	Equal(t, "results", len(Must(commit(many...))(t).Results), 12)
	Equal(t, "the last of them", get("m11"), "1")
	for i := range 12 {
		many[i] = put(fmt.Sprint("m", i), "2")
	}
	absent := operation{Operation: &opUpdate{Update: &mapv1.CommitRequest_Update{Key: "absent"}}}
	refused(t, errors.IsNotFound)(commit(append(many, absent)...))
	for i := range 12 {
		key := fmt.Sprint("m", i)
		Equal(t, "after an abort", get(key), "1")
		// None is locked any more.
		Must(other.Put(ctx, &mapv1.PutRequest{ID: id, Key: key, Value: []byte("3")}))(t)
	}
	removals := make([]operation, 12)
	for i := range removals {
		removals[i] = operation{Operation: &opRemove{Remove: &mapv1.CommitRequest_Remove{Key: fmt.Sprint("m", i)}}}
	}
	for _, result := range Must(commit(removals...))(t).Results {
		Equal(t, "removed", string(result.GetRemove().Value.Value), "3")
	}
	Equal(t, "size", Must(other.Size(ctx, &mapv1.SizeRequest{ID: id}))(t).Size_, 2)
}

func set(t testing.TB, mine, theirs *client.ProtocolClient) {
	ctx, id := Calling(t), id("set")
	s, other := setclient.NewSet(mine.Protocol, id), setclient.NewSet(theirs.Protocol, id)
	Must(0, s.Open(ctx))(t)
	Must(0, other.Open(ctx))(t)
	events := Streaming(t, func(s *Sink[*setv1.EventsResponse]) error {
		return other.Events(&setv1.EventsRequest{ID: id}, s)
	})
	for range theirs.Partitions() {
		Equal(t, "opening event", events.Next().Event.Event == nil, true)
	}
	element := setv1.Element{Value: "a"}
	add := func() bool {
		return Must(s.Add(ctx, &setv1.AddRequest{ID: id, Element: element}))(t).Added
	}
	remove := func() bool {
		return Must(s.Remove(ctx, &setv1.RemoveRequest{ID: id, Element: element}))(t).Removed
	}
	Equal(t, "remove of nothing", remove(), false)
	Equal(t, "add", add(), true)
	Equal(t, "event of add", events.Next().Event.GetAdded().Element, element)
	Equal(t, "add again", add(), false)
	Equal(t, "contains", Must(other.Contains(ctx, &setv1.ContainsRequest{ID: id, Element: element}))(t).Contains, true)
	Equal(t, "remove", remove(), true)
	Equal(t, "event of removal", events.Next().Event.GetRemoved().Element, element)
}

// alive: the sessions outlive their timeout, and so do a lock and who waits for it.
func alive(t testing.TB, mine, theirs *client.ProtocolClient) {
	ctx, id := Calling(t), id("alive-l")
	m, other := openMap(t, mine, "alive"), openMap(t, theirs, "alive")
	events := mapEvents(t, theirs, other, "alive")
	l, waiter := lockclient.NewLock(mine.Protocol, id), lockclient.NewLock(theirs.Protocol, id)
	Must(0, l.Open(ctx))(t)
	Must(0, waiter.Open(ctx))(t)
	Must(l.Lock(ctx, &lockv1.LockRequest{ID: id}))(t)
	soon := 300 * time.Millisecond
	refused(t, errors.IsConflict)(waiter.Lock(ctx, &lockv1.LockRequest{ID: id, Timeout: &soon}))
	waiting := Background(func() (*lockv1.LockResponse, error) {
		return waiter.Lock(ctx, &lockv1.LockRequest{ID: id})
	})
	long := 2 * SessionTimeout(t)
	request := &mapv1.PutRequest{Key: "a", TTL: &long}
	request.ID.Name = "alive"
	Must(m.Put(ctx, request))(t)
	Equal(t, "event of put", events.Next().Event.GetInserted() != nil, true)
	Equal(t, "event of expiry", events.Next().Event.GetRemoved().Expired, true)
	Must(l.Unlock(ctx, &lockv1.UnlockRequest{ID: id}))(t)
	waiting(t)
}

// restarted: increments count once, and a listener misses nothing and hears nothing twice, its
// opening event included.
func restarted(t testing.TB, mine, theirs *client.ProtocolClient) {
	ctx, cid := Calling(t), id("restart-c")
	m, other := openMap(t, mine, "restart"), openMap(t, theirs, "restart")
	events := mapEvents(t, theirs, other, "restart")
	c := counterclient.NewCounter(mine.Protocol, cid)
	Must(0, c.Open(ctx))(t)
	stop, done := make(chan struct{}), make(chan error, 2)
	var increments, puts atomic.Int64
	work := func(acknowledged *atomic.Int64, one func(context.Context) error) {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := one(ctx); err != nil {
				done <- err
				return
			}
			acknowledged.Add(1)
		}
	}
	go work(&increments, func(ctx context.Context) error {
		_, err := c.Increment(ctx, &counterv1.IncrementRequest{ID: cid, Delta: 1})
		return err
	})
	go work(&puts, func(ctx context.Context) error {
		value := fmt.Sprint("event ", puts.Load())
		_, err := m.Put(ctx, &mapv1.PutRequest{ID: id("restart"), Key: "a", Value: []byte(value)})
		return err
	})
	heard := int64(0)
	hear := func(all int64) {
		t.Helper()
		for ; heard < all; heard++ {
			event := events.Next().Event
			value := event.GetUpdated().GetValue().Value
			if heard == 0 {
				value = event.GetInserted().GetValue().Value
			}
			Equal(t, "event", string(value), fmt.Sprint("event ", heard))
		}
	}
	hear(10)
	Restart(t)
	hear(puts.Load() + 10)
	close(stop)
	Must(0, <-done)(t)
	Must(0, <-done)(t)
	hear(puts.Load())
	Equal(t, "increments", Must(c.Get(ctx, &counterv1.GetRequest{ID: cid}))(t).Value, increments.Load())
}

// closed: a client that is closed gives up what it holds at once.
func closed(t testing.TB, _, theirs *client.ProtocolClient) {
	ctx, id, mine := Calling(t), id("closed"), connect(t, Lasting(t))
	l, waiter := lockclient.NewLock(mine.Protocol, id), lockclient.NewLock(theirs.Protocol, id)
	Must(0, l.Open(ctx))(t)
	Must(0, waiter.Open(ctx))(t)
	Must(l.Lock(ctx, &lockv1.LockRequest{ID: id}))(t)
	waiting := Background(func() (*lockv1.LockResponse, error) {
		return waiter.Lock(ctx, &lockv1.LockRequest{ID: id})
	})
	Must(0, mine.Close(ctx))(t)
	waiting(t)
}
