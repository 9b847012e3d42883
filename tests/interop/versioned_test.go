package interop

import (
	"fmt"
	"testing"

	indexedmapv1 "github.com/atomix/runtime/api/atomix/runtime/indexedmap/v1"
	mapv1 "github.com/atomix/runtime/api/atomix/runtime/map/v1"
	valuev1 "github.com/atomix/runtime/api/atomix/runtime/value/v1"
	"github.com/atomix/runtime/sdk/pkg/runtime"
	"google.golang.org/grpc/codes"
)

func keyed(t testing.TB, conn, other runtime.Conn) {
	ctx, id := calling(t), id("map")
	m, theirs := must(conn.Map(nil))(t), must(other.Map(nil))(t)
	for _, m := range []mapv1.MapServer{m, theirs} {
		must(m.Create(ctx, &mapv1.CreateRequest{ID: id}))(t)
	}
	put := func(key, value string) uint64 {
		return must(m.Put(ctx, &mapv1.PutRequest{ID: id, Key: key, Value: []byte(value)}))(t).Version
	}
	events := mapEvents(t, theirs, "map")
	events.settle(func(round int) { put("a", fmt.Sprint(round)) }, isValue)
	version := put("a", "new")
	event := events.next().Event.GetUpdated()
	equal(t, "event", string(event.Value.Value), "new")
	equal(t, "its version", event.Value.Version, version)
	equal(t, "equal bytes change nothing", put("a", "new"), version)
	got := must(theirs.Get(ctx, &mapv1.GetRequest{ID: id, Key: "a"}))(t).Value
	equal(t, "get", fmt.Sprint(string(got.Value), got.Version), fmt.Sprint("new", version))
	refused(t, codes.Aborted)(m.Update(ctx, &mapv1.UpdateRequest{ID: id, Key: "a", PrevVersion: version + 1}))
	update := must(m.Update(ctx, &mapv1.UpdateRequest{ID: id, Key: "a", Value: []byte("newer"), PrevVersion: version}))(t)
	equal(t, "previous", update.PrevValue.Version, version)
	equal(t, "event of update", events.next().Event.GetUpdated().PrevValue.Version, version)
	refused(t, codes.Aborted)(m.Remove(ctx, &mapv1.RemoveRequest{ID: id, Key: "a", PrevVersion: version}))
	removed := must(m.Remove(ctx, &mapv1.RemoveRequest{ID: id, Key: "a", PrevVersion: update.Version}))(t)
	equal(t, "removed", string(removed.Value.Value), "newer")
	equal(t, "event of removal", events.next().Event.GetRemoved().Expired, false)
	refused(t, codes.NotFound)(theirs.Get(ctx, &mapv1.GetRequest{ID: id, Key: "a"}))
	refused(t, codes.NotFound)(m.Update(ctx, &mapv1.UpdateRequest{ID: id, Key: "a"}))
	refused(t, codes.NotFound)(m.Remove(ctx, &mapv1.RemoveRequest{ID: id, Key: "a"}))

	must(m.Insert(ctx, &mapv1.InsertRequest{ID: id, Key: "a", Value: []byte("brief"), TTL: &soon}))(t)
	refused(t, codes.AlreadyExists)(m.Insert(ctx, &mapv1.InsertRequest{ID: id, Key: "a"}))
	equal(t, "event of insert", string(events.next().Event.GetInserted().Value.Value), "brief")
	equal(t, "event of expiry", events.next().Event.GetRemoved().Expired, true)
	refused(t, codes.NotFound)(m.Get(ctx, &mapv1.GetRequest{ID: id, Key: "a"}))

	watch := streaming(t, func(s *sink[*mapv1.EntriesResponse]) error {
		return theirs.Entries(&mapv1.EntriesRequest{ID: id, Watch: true}, s)
	})
	watch.settle(func(round int) { put("watched", fmt.Sprint(round)) }, func(e *mapv1.EntriesResponse, round int) bool {
		return e.Entry.Value != nil && string(e.Entry.Value.Value) == fmt.Sprint(round)
	})
	must(m.Remove(ctx, &mapv1.RemoveRequest{ID: id, Key: "watched"}))(t)
	if gone := watch.next().Entry; gone.Key != "watched" || gone.Value != nil {
		t.Fatalf("%v instead of a key without a value", gone)
	}
	for i := range 20 {
		put(fmt.Sprint("k", i), "v")
	}
	equal(t, "size", must(theirs.Size(ctx, &mapv1.SizeRequest{ID: id}))(t).Size_, 20)
	entries := all(t, func(s *sink[*mapv1.EntriesResponse]) error {
		return theirs.Entries(&mapv1.EntriesRequest{ID: id}, s)
	})
	equal(t, "entries", len(entries), 20)
	refused(t, codes.Unimplemented)(m.Lock(ctx, &mapv1.LockRequest{ID: id, Keys: []string{"k0"}}))
	refused(t, codes.Unimplemented)(m.Unlock(ctx, &mapv1.UnlockRequest{ID: id, Keys: []string{"k0"}}))
	must(m.Clear(ctx, &mapv1.ClearRequest{ID: id}))(t)
	equal(t, "size after clear", must(m.Size(ctx, &mapv1.SizeRequest{ID: id}))(t).Size_, 0)
}

func mapEvents(t testing.TB, m mapv1.MapServer, name string) *stream[*mapv1.EventsResponse] {
	return streaming(t, func(s *sink[*mapv1.EventsResponse]) error {
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
	ctx, id := calling(t), id("indexedmap")
	m, theirs := must(conn.IndexedMap(nil))(t), must(other.IndexedMap(nil))(t)
	for _, m := range []indexedmapv1.IndexedMapServer{m, theirs} {
		must(m.Create(ctx, &indexedmapv1.CreateRequest{ID: id}))(t)
	}
	is := func(what string, entry *indexedmapv1.Entry, key string, index uint64, value string) {
		t.Helper()
		if entry == nil || entry.Key != key || entry.Index != index || entry.Value == nil || string(entry.Value.Value) != value {
			t.Fatalf("%s: %v instead of %s at %d: %s", what, entry, key, index, value)
		}
	}
	add := func(key, value string) *indexedmapv1.Entry {
		return must(m.Append(ctx, &indexedmapv1.AppendRequest{ID: id, Key: key, Value: []byte(value)}))(t).Entry
	}
	refused(t, codes.NotFound)(m.FirstEntry(ctx, &indexedmapv1.FirstEntryRequest{ID: id}))
	for i, key := range []string{"a", "b", "c", "d"} {
		is("append", add(key, key), key, uint64(i+1), key)
	}
	refused(t, codes.AlreadyExists)(m.Append(ctx, &indexedmapv1.AppendRequest{ID: id, Key: "a"}))
	events := streaming(t, func(s *sink[*indexedmapv1.EventsResponse]) error {
		return theirs.Events(&indexedmapv1.EventsRequest{ID: id}, s)
	})
	events.settle(func(round int) {
		must(m.Update(ctx, &indexedmapv1.UpdateRequest{ID: id, Key: "d", Value: []byte(fmt.Sprint(round))}))(t)
	}, func(e *indexedmapv1.EventsResponse, round int) bool {
		updated := e.Event.GetUpdated()
		return updated != nil && string(updated.Value.Value) == fmt.Sprint(round)
	})
	must(m.Remove(ctx, &indexedmapv1.RemoveRequest{ID: id, Index: 3}))(t)
	equal(t, "event of removal", string(events.next().Event.GetRemoved().Value.Value), "c")
	// The two that stop the published node or answer with the wrong entry.
	is("next of a gap", must(m.NextEntry(ctx, &indexedmapv1.NextEntryRequest{ID: id, Index: 0}))(t).Entry, "a", 1, "a")
	is("previous of a gap", must(m.PrevEntry(ctx, &indexedmapv1.PrevEntryRequest{ID: id, Index: 3}))(t).Entry, "b", 2, "b")
	is("next", must(theirs.NextEntry(ctx, &indexedmapv1.NextEntryRequest{ID: id, Index: 1}))(t).Entry, "b", 2, "b")
	refused(t, codes.NotFound)(m.NextEntry(ctx, &indexedmapv1.NextEntryRequest{ID: id, Index: 4}))
	refused(t, codes.NotFound)(m.PrevEntry(ctx, &indexedmapv1.PrevEntryRequest{ID: id, Index: 1}))
	is("first", must(theirs.FirstEntry(ctx, &indexedmapv1.FirstEntryRequest{ID: id}))(t).Entry, "a", 1, "a")
	last := must(theirs.LastEntry(ctx, &indexedmapv1.LastEntryRequest{ID: id}))(t).Entry
	equal(t, "last", last.Key, "d")
	is("get by index", must(theirs.Get(ctx, &indexedmapv1.GetRequest{ID: id, Index: 2}))(t).Entry, "b", 2, "b")
	is("get by key", must(theirs.Get(ctx, &indexedmapv1.GetRequest{ID: id, Key: "b"}))(t).Entry, "b", 2, "b")
	refused(t, codes.NotFound)(theirs.Get(ctx, &indexedmapv1.GetRequest{ID: id, Key: "c"}))
	refused(t, codes.Aborted)(m.Update(ctx, &indexedmapv1.UpdateRequest{ID: id, Key: "d", Value: []byte("no"), PrevVersion: last.Value.Version + 1}))
	update := must(m.Update(ctx, &indexedmapv1.UpdateRequest{ID: id, Index: 4, Value: []byte("yes"), PrevVersion: last.Value.Version}))(t)
	is("update", update.Entry, "d", 4, "yes")
	equal(t, "event of update", string(events.next().Event.GetUpdated().Value.Value), "yes")
	must(m.Append(ctx, &indexedmapv1.AppendRequest{ID: id, Key: "e", Value: []byte("brief"), TTL: &soon}))(t)
	equal(t, "event of append", string(events.next().Event.GetInserted().Value.Value), "brief")
	equal(t, "event of expiry", events.next().Event.GetRemoved().Expired, true)
	equal(t, "size", must(theirs.Size(ctx, &indexedmapv1.SizeRequest{ID: id}))(t).Size_, 3)
	entries := all(t, func(s *sink[*indexedmapv1.EntriesResponse]) error {
		return theirs.Entries(&indexedmapv1.EntriesRequest{ID: id}, s)
	})
	equal(t, "entries", len(entries), 3)
	is("the second in order", &entries[1].Entry, "b", 2, "b")
	must(m.Clear(ctx, &indexedmapv1.ClearRequest{ID: id}))(t)
	refused(t, codes.NotFound)(theirs.LastEntry(ctx, &indexedmapv1.LastEntryRequest{ID: id}))
	is("indexes go on", add("f", "f"), "f", 6, "f")
}

func value(t testing.TB, conn, other runtime.Conn) {
	ctx, id := calling(t), id("value")
	v, theirs := must(conn.Value(nil))(t), must(other.Value(nil))(t)
	for _, v := range []valuev1.ValueServer{v, theirs} {
		must(v.Create(ctx, &valuev1.CreateRequest{ID: id}))(t)
	}
	refused(t, codes.NotFound)(v.Get(ctx, &valuev1.GetRequest{ID: id}))
	refused(t, codes.NotFound)(v.Update(ctx, &valuev1.UpdateRequest{ID: id}))
	first := must(v.Insert(ctx, &valuev1.InsertRequest{ID: id, Value: []byte("first")}))(t).Version
	refused(t, codes.AlreadyExists)(v.Insert(ctx, &valuev1.InsertRequest{ID: id}))
	watch := streaming(t, func(s *sink[*valuev1.WatchResponse]) error {
		return theirs.Watch(&valuev1.WatchRequest{ID: id}, s)
	})
	equal(t, "watch begins", string(watch.next().Value.Value), "first")
	refused(t, codes.Aborted)(v.Update(ctx, &valuev1.UpdateRequest{ID: id, Value: []byte("no"), PrevVersion: first + 1}))
	equal(t, "after a conflict", string(must(theirs.Get(ctx, &valuev1.GetRequest{ID: id}))(t).Value.Value), "first")
	update := must(v.Update(ctx, &valuev1.UpdateRequest{ID: id, Value: []byte("second"), PrevVersion: first}))(t)
	equal(t, "previous", string(update.PrevValue.Value), "first")
	equal(t, "watch", string(watch.next().Value.Value), "second")
	events := streaming(t, func(s *sink[*valuev1.EventsResponse]) error {
		return theirs.Events(&valuev1.EventsRequest{ID: id}, s)
	})
	events.settle(func(round int) {
		must(v.Set(ctx, &valuev1.SetRequest{ID: id, Value: []byte(fmt.Sprint(round))}))(t)
	}, func(e *valuev1.EventsResponse, round int) bool {
		updated := e.Event.GetUpdated()
		return updated != nil && string(updated.Value.Value) == fmt.Sprint(round)
	})
	last := must(v.Get(ctx, &valuev1.GetRequest{ID: id}))(t).Value
	refused(t, codes.Aborted)(v.Delete(ctx, &valuev1.DeleteRequest{ID: id, PrevVersion: first}))
	deleted := must(v.Delete(ctx, &valuev1.DeleteRequest{ID: id, PrevVersion: last.Version}))(t).Value
	equal(t, "deleted", string(deleted.Value), string(last.Value))
	equal(t, "event of deletion", events.next().Event.GetDeleted().Expired, false)
	refused(t, codes.NotFound)(theirs.Get(ctx, &valuev1.GetRequest{ID: id}))
	// Only Update's time to live goes through the driver (README.md).
	must(v.Set(ctx, &valuev1.SetRequest{ID: id, Value: []byte("third"), TTL: &soon}))(t)
	equal(t, "event of creation", string(events.next().Event.GetCreated().Value.Value), "third")
	must(v.Update(ctx, &valuev1.UpdateRequest{ID: id, Value: []byte("brief"), TTL: &soon}))(t)
	equal(t, "event of update", string(events.next().Event.GetUpdated().Value.Value), "brief")
	equal(t, "event of expiry", events.next().Event.GetDeleted().Expired, true)
	refused(t, codes.NotFound)(theirs.Get(ctx, &valuev1.GetRequest{ID: id}))
}
