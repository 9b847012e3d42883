package multiraft

import (
	"fmt"
	"testing"

	indexedmapv1 "github.com/atomix/runtime/api/atomix/runtime/indexedmap/v1"
	mapv1 "github.com/atomix/runtime/api/atomix/runtime/map/v1"
	valuev1 "github.com/atomix/runtime/api/atomix/runtime/value/v1"
	"github.com/atomix/runtime/sdk/pkg/runtime"
	"google.golang.org/grpc/codes"

	. "ringraft.test/interop/harness"
)

func keyed(t testing.TB, conn, other runtime.Conn) {
	ctx, id := Calling(t), id("map")
	m, theirs := Must(conn.Map(nil))(t), Must(other.Map(nil))(t)
	for _, m := range []mapv1.MapServer{m, theirs} {
		Must(m.Create(ctx, &mapv1.CreateRequest{ID: id}))(t)
	}
	put := func(key, value string) uint64 {
		return Must(m.Put(ctx, &mapv1.PutRequest{ID: id, Key: key, Value: []byte(value)}))(t).Version
	}
	events := mapEvents(t, theirs, "map")
	events.Settle(func(round int) { put("a", fmt.Sprint(round)) }, isValue)
	version := put("a", "new")
	event := events.Next().Event.GetUpdated()
	Equal(t, "event", string(event.Value.Value), "new")
	Equal(t, "its version", event.Value.Version, version)
	Equal(t, "equal bytes change nothing", put("a", "new"), version)
	got := Must(theirs.Get(ctx, &mapv1.GetRequest{ID: id, Key: "a"}))(t).Value
	Equal(t, "get", fmt.Sprint(string(got.Value), got.Version), fmt.Sprint("new", version))
	Refused(t, codes.Aborted)(m.Update(ctx, &mapv1.UpdateRequest{ID: id, Key: "a", PrevVersion: version + 1}))
	update := Must(m.Update(ctx, &mapv1.UpdateRequest{ID: id, Key: "a", Value: []byte("newer"), PrevVersion: version}))(t)
	Equal(t, "previous", update.PrevValue.Version, version)
	Equal(t, "event of update", events.Next().Event.GetUpdated().PrevValue.Version, version)
	Refused(t, codes.Aborted)(m.Remove(ctx, &mapv1.RemoveRequest{ID: id, Key: "a", PrevVersion: version}))
	removed := Must(m.Remove(ctx, &mapv1.RemoveRequest{ID: id, Key: "a", PrevVersion: update.Version}))(t)
	Equal(t, "removed", string(removed.Value.Value), "newer")
	Equal(t, "event of removal", events.Next().Event.GetRemoved().Expired, false)
	Refused(t, codes.NotFound)(theirs.Get(ctx, &mapv1.GetRequest{ID: id, Key: "a"}))
	Refused(t, codes.NotFound)(m.Update(ctx, &mapv1.UpdateRequest{ID: id, Key: "a"}))
	Refused(t, codes.NotFound)(m.Remove(ctx, &mapv1.RemoveRequest{ID: id, Key: "a"}))

	Must(m.Insert(ctx, &mapv1.InsertRequest{ID: id, Key: "a", Value: []byte("brief"), TTL: &soon}))(t)
	Refused(t, codes.AlreadyExists)(m.Insert(ctx, &mapv1.InsertRequest{ID: id, Key: "a"}))
	Equal(t, "event of insert", string(events.Next().Event.GetInserted().Value.Value), "brief")
	Equal(t, "event of expiry", events.Next().Event.GetRemoved().Expired, true)
	Refused(t, codes.NotFound)(m.Get(ctx, &mapv1.GetRequest{ID: id, Key: "a"}))

	watch := Streaming(t, func(s *Sink[*mapv1.EntriesResponse]) error {
		return theirs.Entries(&mapv1.EntriesRequest{ID: id, Watch: true}, s)
	})
	watch.Settle(func(round int) { put("watched", fmt.Sprint(round)) }, func(e *mapv1.EntriesResponse, round int) bool {
		return e.Entry.Value != nil && string(e.Entry.Value.Value) == fmt.Sprint(round)
	})
	Must(m.Remove(ctx, &mapv1.RemoveRequest{ID: id, Key: "watched"}))(t)
	if gone := watch.Next().Entry; gone.Key != "watched" || gone.Value != nil {
		t.Fatalf("%v instead of a key without a value", gone)
	}
	for i := range 20 {
		put(fmt.Sprint("k", i), "v")
	}
	Equal(t, "size", Must(theirs.Size(ctx, &mapv1.SizeRequest{ID: id}))(t).Size_, 20)
	entries := All(t, func(s *Sink[*mapv1.EntriesResponse]) error {
		return theirs.Entries(&mapv1.EntriesRequest{ID: id}, s)
	})
	Equal(t, "entries", len(entries), 20)
	Refused(t, codes.Unimplemented)(m.Lock(ctx, &mapv1.LockRequest{ID: id, Keys: []string{"k0"}}))
	Refused(t, codes.Unimplemented)(m.Unlock(ctx, &mapv1.UnlockRequest{ID: id, Keys: []string{"k0"}}))
	Must(m.Clear(ctx, &mapv1.ClearRequest{ID: id}))(t)
	Equal(t, "size after clear", Must(m.Size(ctx, &mapv1.SizeRequest{ID: id}))(t).Size_, 0)
}

func mapEvents(t testing.TB, m mapv1.MapServer, name string) *Stream[*mapv1.EventsResponse] {
	return Streaming(t, func(s *Sink[*mapv1.EventsResponse]) error {
		return m.Events(&mapv1.EventsRequest{ID: id(name)}, s)
	})
}

// isValue tells whether an event brought the value that is the number of the round.
func isValue(e *mapv1.EventsResponse, round int) bool { return valueOf(e) == fmt.Sprint(round) }

func valueOf(e *mapv1.EventsResponse) string {
	if inserted := e.Event.GetInserted(); inserted != nil {
		return string(inserted.Value.Value)
	}
	if updated := e.Event.GetUpdated(); updated != nil {
		return string(updated.Value.Value)
	}
	return ""
}

func indexedMap(t testing.TB, conn, other runtime.Conn) {
	ctx, id := Calling(t), id("indexedmap")
	m, theirs := Must(conn.IndexedMap(nil))(t), Must(other.IndexedMap(nil))(t)
	for _, m := range []indexedmapv1.IndexedMapServer{m, theirs} {
		Must(m.Create(ctx, &indexedmapv1.CreateRequest{ID: id}))(t)
	}
	is := func(what string, entry *indexedmapv1.Entry, key string, index uint64, value string) {
		t.Helper()
		if entry == nil || entry.Key != key || entry.Index != index || entry.Value == nil || string(entry.Value.Value) != value {
			t.Fatalf("%s: %v instead of %s at %d: %s", what, entry, key, index, value)
		}
	}
	add := func(key, value string) *indexedmapv1.Entry {
		return Must(m.Append(ctx, &indexedmapv1.AppendRequest{ID: id, Key: key, Value: []byte(value)}))(t).Entry
	}
	Refused(t, codes.NotFound)(m.FirstEntry(ctx, &indexedmapv1.FirstEntryRequest{ID: id}))
	for i, key := range []string{"a", "b", "c", "d"} {
		is("append", add(key, key), key, uint64(i+1), key)
	}
	Refused(t, codes.AlreadyExists)(m.Append(ctx, &indexedmapv1.AppendRequest{ID: id, Key: "a"}))
	events := Streaming(t, func(s *Sink[*indexedmapv1.EventsResponse]) error {
		return theirs.Events(&indexedmapv1.EventsRequest{ID: id}, s)
	})
	events.Settle(func(round int) {
		Must(m.Update(ctx, &indexedmapv1.UpdateRequest{ID: id, Key: "d", Value: []byte(fmt.Sprint(round))}))(t)
	}, func(e *indexedmapv1.EventsResponse, round int) bool {
		updated := e.Event.GetUpdated()
		return updated != nil && string(updated.Value.Value) == fmt.Sprint(round)
	})
	Must(m.Remove(ctx, &indexedmapv1.RemoveRequest{ID: id, Index: 3}))(t)
	Equal(t, "event of removal", string(events.Next().Event.GetRemoved().Value.Value), "c")
	// The two that stop the published node or answer with the wrong entry.
	is("next of a gap", Must(m.NextEntry(ctx, &indexedmapv1.NextEntryRequest{ID: id, Index: 0}))(t).Entry, "a", 1, "a")
	is("previous of a gap", Must(m.PrevEntry(ctx, &indexedmapv1.PrevEntryRequest{ID: id, Index: 3}))(t).Entry, "b", 2, "b")
	is("next", Must(theirs.NextEntry(ctx, &indexedmapv1.NextEntryRequest{ID: id, Index: 1}))(t).Entry, "b", 2, "b")
	Refused(t, codes.NotFound)(m.NextEntry(ctx, &indexedmapv1.NextEntryRequest{ID: id, Index: 4}))
	Refused(t, codes.NotFound)(m.PrevEntry(ctx, &indexedmapv1.PrevEntryRequest{ID: id, Index: 1}))
	is("first", Must(theirs.FirstEntry(ctx, &indexedmapv1.FirstEntryRequest{ID: id}))(t).Entry, "a", 1, "a")
	last := Must(theirs.LastEntry(ctx, &indexedmapv1.LastEntryRequest{ID: id}))(t).Entry
	Equal(t, "last", last.Key, "d")
	is("get by index", Must(theirs.Get(ctx, &indexedmapv1.GetRequest{ID: id, Index: 2}))(t).Entry, "b", 2, "b")
	is("get by key", Must(theirs.Get(ctx, &indexedmapv1.GetRequest{ID: id, Key: "b"}))(t).Entry, "b", 2, "b")
	Refused(t, codes.NotFound)(theirs.Get(ctx, &indexedmapv1.GetRequest{ID: id, Key: "c"}))
	Refused(t, codes.Aborted)(m.Update(ctx, &indexedmapv1.UpdateRequest{ID: id, Key: "d", Value: []byte("no"), PrevVersion: last.Value.Version + 1}))
	update := Must(m.Update(ctx, &indexedmapv1.UpdateRequest{ID: id, Index: 4, Value: []byte("yes"), PrevVersion: last.Value.Version}))(t)
	is("update", update.Entry, "d", 4, "yes")
	Equal(t, "event of update", string(events.Next().Event.GetUpdated().Value.Value), "yes")
	Must(m.Append(ctx, &indexedmapv1.AppendRequest{ID: id, Key: "e", Value: []byte("brief"), TTL: &soon}))(t)
	Equal(t, "event of append", string(events.Next().Event.GetInserted().Value.Value), "brief")
	Equal(t, "event of expiry", events.Next().Event.GetRemoved().Expired, true)
	Equal(t, "size", Must(theirs.Size(ctx, &indexedmapv1.SizeRequest{ID: id}))(t).Size_, 3)
	entries := All(t, func(s *Sink[*indexedmapv1.EntriesResponse]) error {
		return theirs.Entries(&indexedmapv1.EntriesRequest{ID: id}, s)
	})
	Equal(t, "entries", len(entries), 3)
	is("the second in order", &entries[1].Entry, "b", 2, "b")
	Must(m.Clear(ctx, &indexedmapv1.ClearRequest{ID: id}))(t)
	Refused(t, codes.NotFound)(theirs.LastEntry(ctx, &indexedmapv1.LastEntryRequest{ID: id}))
	is("indexes go on", add("f", "f"), "f", 6, "f")
}

func value(t testing.TB, conn, other runtime.Conn) {
	ctx, id := Calling(t), id("value")
	v, theirs := Must(conn.Value(nil))(t), Must(other.Value(nil))(t)
	for _, v := range []valuev1.ValueServer{v, theirs} {
		Must(v.Create(ctx, &valuev1.CreateRequest{ID: id}))(t)
	}
	Refused(t, codes.NotFound)(v.Get(ctx, &valuev1.GetRequest{ID: id}))
	Refused(t, codes.NotFound)(v.Update(ctx, &valuev1.UpdateRequest{ID: id}))
	first := Must(v.Insert(ctx, &valuev1.InsertRequest{ID: id, Value: []byte("first")}))(t).Version
	Refused(t, codes.AlreadyExists)(v.Insert(ctx, &valuev1.InsertRequest{ID: id}))
	watch := Streaming(t, func(s *Sink[*valuev1.WatchResponse]) error {
		return theirs.Watch(&valuev1.WatchRequest{ID: id}, s)
	})
	Equal(t, "watch begins", string(watch.Next().Value.Value), "first")
	Refused(t, codes.Aborted)(v.Update(ctx, &valuev1.UpdateRequest{ID: id, Value: []byte("no"), PrevVersion: first + 1}))
	Equal(t, "after a conflict", string(Must(theirs.Get(ctx, &valuev1.GetRequest{ID: id}))(t).Value.Value), "first")
	update := Must(v.Update(ctx, &valuev1.UpdateRequest{ID: id, Value: []byte("second"), PrevVersion: first}))(t)
	Equal(t, "previous", string(update.PrevValue.Value), "first")
	Equal(t, "watch", string(watch.Next().Value.Value), "second")
	events := Streaming(t, func(s *Sink[*valuev1.EventsResponse]) error {
		return theirs.Events(&valuev1.EventsRequest{ID: id}, s)
	})
	events.Settle(func(round int) {
		Must(v.Set(ctx, &valuev1.SetRequest{ID: id, Value: []byte(fmt.Sprint(round))}))(t)
	}, func(e *valuev1.EventsResponse, round int) bool {
		updated := e.Event.GetUpdated()
		return updated != nil && string(updated.Value.Value) == fmt.Sprint(round)
	})
	last := Must(v.Get(ctx, &valuev1.GetRequest{ID: id}))(t).Value
	Refused(t, codes.Aborted)(v.Delete(ctx, &valuev1.DeleteRequest{ID: id, PrevVersion: first}))
	deleted := Must(v.Delete(ctx, &valuev1.DeleteRequest{ID: id, PrevVersion: last.Version}))(t).Value
	Equal(t, "deleted", string(deleted.Value), string(last.Value))
	Equal(t, "event of deletion", events.Next().Event.GetDeleted().Expired, false)
	Refused(t, codes.NotFound)(theirs.Get(ctx, &valuev1.GetRequest{ID: id}))
	// Only Update's time to live goes through the driver (README.md).
	Must(v.Set(ctx, &valuev1.SetRequest{ID: id, Value: []byte("third"), TTL: &soon}))(t)
	Equal(t, "event of creation", string(events.Next().Event.GetCreated().Value.Value), "third")
	Must(v.Update(ctx, &valuev1.UpdateRequest{ID: id, Value: []byte("brief"), TTL: &soon}))(t)
	Equal(t, "event of update", string(events.Next().Event.GetUpdated().Value.Value), "brief")
	Equal(t, "event of expiry", events.Next().Event.GetDeleted().Expired, true)
	Refused(t, codes.NotFound)(theirs.Get(ctx, &valuev1.GetRequest{ID: id}))
}
