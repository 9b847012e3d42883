package multiraft

import (
	"fmt"
	"testing"

	countermapv1 "github.com/atomix/runtime/api/atomix/runtime/countermap/v1"
	indexedmapv1 "github.com/atomix/runtime/api/atomix/runtime/indexedmap/v1"
	multimapv1 "github.com/atomix/runtime/api/atomix/runtime/multimap/v1"
	setv1 "github.com/atomix/runtime/api/atomix/runtime/set/v1"
	valuev1 "github.com/atomix/runtime/api/atomix/runtime/value/v1"
	"github.com/atomix/runtime/sdk/pkg/runtime"

	. "ringraft.test/interop/harness"
)

// listening opens the five kinds that `open` does not, writes to them, and has a listener at each.
// What it returns is to be called after whatever they have to outlive: one change of each, which has
// to be the next that is heard, and what was written has to be there.
func listening(t testing.TB, conn, other runtime.Conn, name string) func() {
	t.Helper()
	checks := []func(){
		counterMapStays(t, conn, other, name+"-cm"),
		indexedMapStays(t, conn, other, name+"-im"),
		multiMapStays(t, conn, other, name+"-mm"),
		setStays(t, conn, other, name+"-s"),
		valueStays(t, conn, other, name+"-v"),
	}
	return func() {
		t.Helper()
		for _, check := range checks {
			check()
		}
	}
}

func counterMapStays(t testing.TB, conn, other runtime.Conn, name string) func() {
	ctx, id := Calling(t), id(name)
	m, theirs := Must(conn.CounterMap(nil))(t), Must(other.CounterMap(nil))(t)
	Must(m.Create(ctx, &countermapv1.CreateRequest{ID: id}))(t)
	Must(theirs.Create(ctx, &countermapv1.CreateRequest{ID: id}))(t)
	events := Streaming(t, func(s *Sink[*countermapv1.EventsResponse]) error {
		return theirs.Events(&countermapv1.EventsRequest{ID: id}, s)
	})
	last := int64(0)
	events.Settle(func(int) {
		last = Must(m.Increment(ctx, &countermapv1.IncrementRequest{ID: id, Key: "a", Delta: 1}))(t).PrevValue + 1
	}, func(e *countermapv1.EventsResponse, _ int) bool {
		return e.Event.GetInserted().GetValue() == last || e.Event.GetUpdated().GetValue() == last
	})
	return func() {
		t.Helper()
		Must(m.Increment(ctx, &countermapv1.IncrementRequest{ID: id, Key: "a", Delta: 10}))(t)
		Equal(t, "countermap event", events.Next().Event.GetUpdated().GetValue(), last+10)
		Equal(t, "countermap", Must(theirs.Get(ctx, &countermapv1.GetRequest{ID: id, Key: "a"}))(t).Value, last+10)
		Must(m.Close(ctx, &countermapv1.CloseRequest{ID: id}))(t)
	}
}

func indexedMapStays(t testing.TB, conn, other runtime.Conn, name string) func() {
	ctx, id := Calling(t), id(name)
	m, theirs := Must(conn.IndexedMap(nil))(t), Must(other.IndexedMap(nil))(t)
	Must(m.Create(ctx, &indexedmapv1.CreateRequest{ID: id}))(t)
	Must(theirs.Create(ctx, &indexedmapv1.CreateRequest{ID: id}))(t)
	events := Streaming(t, func(s *Sink[*indexedmapv1.EventsResponse]) error {
		return theirs.Events(&indexedmapv1.EventsRequest{ID: id}, s)
	})
	var last uint64
	add := func(value string) {
		key := fmt.Sprint("after ", last)
		last = Must(m.Append(ctx, &indexedmapv1.AppendRequest{ID: id, Key: key, Value: []byte(value)}))(t).Entry.Index
	}
	events.Settle(func(round int) { add(fmt.Sprint(round)) }, func(e *indexedmapv1.EventsResponse, round int) bool {
		inserted := e.Event.GetInserted()
		return inserted != nil && string(inserted.Value.Value) == fmt.Sprint(round)
	})
	return func() {
		t.Helper()
		before := last
		add("new")
		Equal(t, "indexedmap event", string(events.Next().Event.GetInserted().Value.Value), "new")
		Equal(t, "indexedmap index", last, before+1)
		Equal(t, "indexedmap size", Must(theirs.Size(ctx, &indexedmapv1.SizeRequest{ID: id}))(t).Size_, uint32(last))
		Must(m.Close(ctx, &indexedmapv1.CloseRequest{ID: id}))(t)
	}
}

func multiMapStays(t testing.TB, conn, other runtime.Conn, name string) func() {
	ctx, id := Calling(t), id(name)
	m, theirs := Must(conn.MultiMap(nil))(t), Must(other.MultiMap(nil))(t)
	Must(m.Create(ctx, &multimapv1.CreateRequest{ID: id}))(t)
	Must(theirs.Create(ctx, &multimapv1.CreateRequest{ID: id}))(t)
	events := Streaming(t, func(s *Sink[*multimapv1.EventsResponse]) error {
		return theirs.Events(&multimapv1.EventsRequest{ID: id}, s)
	})
	put := func(value string) {
		Must(m.Put(ctx, &multimapv1.PutRequest{ID: id, Key: "a", Value: value}))(t)
	}
	rounds := 0
	events.Settle(func(round int) {
		put(fmt.Sprint(round))
		rounds = round
	}, func(e *multimapv1.EventsResponse, round int) bool {
		return e.Event.GetAdded().GetValue() == fmt.Sprint(round)
	})
	return func() {
		t.Helper()
		put("new")
		Equal(t, "multimap event", events.Next().Event.GetAdded().GetValue(), "new")
		Equal(t, "multimap", len(Must(theirs.Get(ctx, &multimapv1.GetRequest{ID: id, Key: "a"}))(t).Values), rounds+1)
		Must(m.Close(ctx, &multimapv1.CloseRequest{ID: id}))(t)
	}
}

func setStays(t testing.TB, conn, other runtime.Conn, name string) func() {
	ctx, id := Calling(t), id(name)
	s, theirs := Must(conn.Set(nil))(t), Must(other.Set(nil))(t)
	Must(s.Create(ctx, &setv1.CreateRequest{ID: id}))(t)
	Must(theirs.Create(ctx, &setv1.CreateRequest{ID: id}))(t)
	events := Streaming(t, func(s *Sink[*setv1.EventsResponse]) error {
		return theirs.Events(&setv1.EventsRequest{ID: id}, s)
	})
	add := func(number int) string {
		value := Neighbour(t, number)
		Must(s.Add(ctx, &setv1.AddRequest{ID: id, Element: setv1.Element{Value: value}}))(t)
		return value
	}
	rounds, last := 0, ""
	events.Settle(func(round int) { rounds, last = round, add(round) }, func(e *setv1.EventsResponse, _ int) bool {
		return e.Event.GetAdded().Element.Value == last
	})
	return func() {
		t.Helper()
		Equal(t, "set event", add(0), events.Next().Event.GetAdded().Element.Value)
		Equal(t, "set", Must(theirs.Size(ctx, &setv1.SizeRequest{ID: id}))(t).Size_, uint32(rounds+1))
		Must(s.Close(ctx, &setv1.CloseRequest{ID: id}))(t)
	}
}

func valueStays(t testing.TB, conn, other runtime.Conn, name string) func() {
	ctx, id := Calling(t), id(name)
	v, theirs := Must(conn.Value(nil))(t), Must(other.Value(nil))(t)
	Must(v.Create(ctx, &valuev1.CreateRequest{ID: id}))(t)
	Must(theirs.Create(ctx, &valuev1.CreateRequest{ID: id}))(t)
	put := func(value string) {
		Must(v.Set(ctx, &valuev1.SetRequest{ID: id, Value: []byte(value)}))(t)
	}
	put("0")
	events := Streaming(t, func(s *Sink[*valuev1.EventsResponse]) error {
		return theirs.Events(&valuev1.EventsRequest{ID: id}, s)
	})
	watch := Streaming(t, func(s *Sink[*valuev1.WatchResponse]) error {
		return theirs.Watch(&valuev1.WatchRequest{ID: id}, s)
	})
	Equal(t, "value watch", string(watch.Next().Value.Value), "0")
	last := "0"
	events.Settle(func(round int) {
		last = fmt.Sprint(round)
		put(last)
	}, func(e *valuev1.EventsResponse, _ int) bool { return string(e.Event.GetUpdated().Value.Value) == last })
	for string(watch.Next().Value.Value) != last {
	}
	return func() {
		t.Helper()
		Equal(t, "value", string(Must(theirs.Get(ctx, &valuev1.GetRequest{ID: id}))(t).Value.Value), last)
		put("new")
		Equal(t, "value event", string(events.Next().Event.GetUpdated().Value.Value), "new")
		// A watch is a query: one that had to begin again begins with what is there.
		seen := string(watch.Next().Value.Value)
		if seen == last {
			seen = string(watch.Next().Value.Value)
		}
		Equal(t, "value watch", seen, "new")
		Must(v.Close(ctx, &valuev1.CloseRequest{ID: id}))(t)
	}
}
