package interop

import (
	"fmt"
	"slices"
	"testing"
	"time"

	counterv1 "github.com/atomix/runtime/api/atomix/runtime/counter/v1"
	countermapv1 "github.com/atomix/runtime/api/atomix/runtime/countermap/v1"
	electionv1 "github.com/atomix/runtime/api/atomix/runtime/election/v1"
	lockv1 "github.com/atomix/runtime/api/atomix/runtime/lock/v1"
	multimapv1 "github.com/atomix/runtime/api/atomix/runtime/multimap/v1"
	setv1 "github.com/atomix/runtime/api/atomix/runtime/set/v1"
	"github.com/atomix/runtime/sdk/pkg/runtime"
	"google.golang.org/grpc/codes"
)

// soon is a time to live, or to wait for a lock.
var soon = 300 * time.Millisecond

func counter(t testing.TB, conn, other runtime.Conn) {
	ctx, id := calling(t), id("counter")
	mine, theirs := must(conn.Counter(nil))(t), must(other.Counter(nil))(t)
	for _, c := range []counterv1.CounterServer{mine, theirs} {
		must(c.Create(ctx, &counterv1.CreateRequest{ID: id}))(t)
	}
	get := func(c counterv1.CounterServer) int64 {
		return must(c.Get(ctx, &counterv1.GetRequest{ID: id}))(t).Value
	}
	equal(t, "new", get(mine), 0)
	equal(t, "set", must(mine.Set(ctx, &counterv1.SetRequest{ID: id, Value: 40}))(t).Value, 40)
	equal(t, "increment", must(mine.Increment(ctx, &counterv1.IncrementRequest{ID: id, Delta: 3}))(t).Value, 43)
	equal(t, "decrement", must(theirs.Decrement(ctx, &counterv1.DecrementRequest{ID: id, Delta: 1}))(t).Value, 42)
	equal(t, "what the other wrote", get(mine), 42)
	equal(t, "update", must(mine.Update(ctx, &counterv1.UpdateRequest{ID: id, Check: 42, Update: -7}))(t).Value, -7)
	refused(t, codes.Aborted)(mine.Update(ctx, &counterv1.UpdateRequest{ID: id, Check: 42, Update: 1}))
	equal(t, "after a conflict", get(theirs), -7)
	must(theirs.Close(ctx, &counterv1.CloseRequest{ID: id}))(t)
	must(theirs.Create(ctx, &counterv1.CreateRequest{ID: id}))(t)
	equal(t, "after close and create", get(theirs), -7)
}

func counterMap(t testing.TB, conn, other runtime.Conn) {
	ctx, id := calling(t), id("countermap")
	m, theirs := must(conn.CounterMap(nil))(t), must(other.CounterMap(nil))(t)
	for _, m := range []countermapv1.CounterMapServer{m, theirs} {
		must(m.Create(ctx, &countermapv1.CreateRequest{ID: id}))(t)
	}
	events := streaming(t, func(s *sink[*countermapv1.EventsResponse]) error {
		return theirs.Events(&countermapv1.EventsRequest{ID: id}, s)
	})
	events.settle(func(round int) {
		must(m.Set(ctx, &countermapv1.SetRequest{ID: id, Key: "a", Value: int64(round)}))(t)
	}, func(e *countermapv1.EventsResponse, round int) bool {
		updated := e.Event.GetUpdated()
		return updated != nil && updated.Value == int64(round) || round == 1 && e.Event.GetInserted() != nil
	})
	before := must(m.Get(ctx, &countermapv1.GetRequest{ID: id, Key: "a"}))(t).Value
	equal(t, "increment", must(m.Increment(ctx, &countermapv1.IncrementRequest{ID: id, Key: "a", Delta: 5}))(t).PrevValue, before)
	equal(t, "event of increment", events.next().Event.GetUpdated().Value, before+5)
	equal(t, "decrement", must(m.Decrement(ctx, &countermapv1.DecrementRequest{ID: id, Key: "a"}))(t).PrevValue, before+5)
	equal(t, "0 is 1", events.next().Event.GetUpdated().Value, before+4)
	refused(t, codes.Aborted)(m.Remove(ctx, &countermapv1.RemoveRequest{ID: id, Key: "a", PrevValue: before}))
	must(m.Remove(ctx, &countermapv1.RemoveRequest{ID: id, Key: "a", PrevValue: before + 4}))(t)
	equal(t, "event of removal", events.next().Event.GetRemoved().Value, before+4)
	refused(t, codes.NotFound)(m.Get(ctx, &countermapv1.GetRequest{ID: id, Key: "a"}))

	for i := range 20 {
		must(m.Insert(ctx, &countermapv1.InsertRequest{ID: id, Key: fmt.Sprint("k", i), Value: int64(i)}))(t)
	}
	refused(t, codes.AlreadyExists)(m.Insert(ctx, &countermapv1.InsertRequest{ID: id, Key: "k0"}))
	refused(t, codes.Unimplemented)(m.Lock(ctx, &countermapv1.LockRequest{ID: id, Keys: []string{"k0"}}))
	refused(t, codes.Unimplemented)(m.Unlock(ctx, &countermapv1.UnlockRequest{ID: id, Keys: []string{"k0"}}))
	// The driver forgets what the value has to be: it asks for 0 (README.md).
	refused(t, codes.Aborted)(m.Update(ctx, &countermapv1.UpdateRequest{ID: id, Key: "k1", Value: 9, PrevValue: 1}))
	must(m.Update(ctx, &countermapv1.UpdateRequest{ID: id, Key: "k0", Value: 9, PrevValue: 7}))(t)
	equal(t, "size", must(theirs.Size(ctx, &countermapv1.SizeRequest{ID: id}))(t).Size_, 20)
	entries := all(t, func(s *sink[*countermapv1.EntriesResponse]) error {
		return theirs.Entries(&countermapv1.EntriesRequest{ID: id}, s)
	})
	sum := int64(0)
	for _, entry := range entries {
		sum += entry.Entry.Value
	}
	equal(t, "entries", len(entries), 20)
	equal(t, "their sum", sum, 19*20/2+9)
	must(m.Clear(ctx, &countermapv1.ClearRequest{ID: id}))(t)
	equal(t, "size after clear", must(m.Size(ctx, &countermapv1.SizeRequest{ID: id}))(t).Size_, 0)
}

func election(t testing.TB, conn, other runtime.Conn) {
	ctx, id := calling(t), id("election")
	mine, theirs := must(conn.LeaderElection(nil))(t), must(other.LeaderElection(nil))(t)
	for _, e := range []electionv1.LeaderElectionServer{mine, theirs} {
		must(e.Create(ctx, &electionv1.CreateRequest{ID: id}))(t)
	}
	is := func(what string, term electionv1.Term, number uint64, leader string, candidates ...string) {
		t.Helper()
		if term.Term != number || term.Leader != leader || !slices.Equal(term.Candidates, candidates) {
			t.Fatalf("%s: %v instead of %d %s %v", what, term, number, leader, candidates)
		}
	}
	is("before", must(mine.GetTerm(ctx, &electionv1.GetTermRequest{ID: id}))(t).Term, 0, "")
	is("a", must(mine.Enter(ctx, &electionv1.EnterRequest{ID: id, Candidate: "a"}))(t).Term, 1, "a")
	terms := streaming(t, func(s *sink[*electionv1.WatchResponse]) error {
		return theirs.Watch(&electionv1.WatchRequest{ID: id}, s)
	})
	is("watch begins", terms.next().Term, 1, "a")
	is("b", must(theirs.Enter(ctx, &electionv1.EnterRequest{ID: id, Candidate: "b"}))(t).Term, 1, "a", "b")
	is("watch b", terms.next().Term, 1, "a", "b")
	is("c", must(theirs.Enter(ctx, &electionv1.EnterRequest{ID: id, Candidate: "c"}))(t).Term, 1, "a", "b", "c")
	is("watch c", terms.next().Term, 1, "a", "b", "c")
	is("anoint", must(mine.Anoint(ctx, &electionv1.AnointRequest{ID: id, Candidate: "c"}))(t).Term, 2, "c", "a", "b")
	is("watch anoint", terms.next().Term, 2, "c", "a", "b")
	is("promote", must(mine.Promote(ctx, &electionv1.PromoteRequest{ID: id, Candidate: "b"}))(t).Term, 2, "c", "b", "a")
	is("watch promote", terms.next().Term, 2, "c", "b", "a")
	is("demote", must(mine.Demote(ctx, &electionv1.DemoteRequest{ID: id, Candidate: "c"}))(t).Term, 3, "b", "c", "a")
	is("watch demote", terms.next().Term, 3, "b", "c", "a")
	is("evict", must(mine.Evict(ctx, &electionv1.EvictRequest{ID: id, Candidate: "c"}))(t).Term, 3, "b", "a")
	is("watch evict", terms.next().Term, 3, "b", "a")
	is("withdraw", must(theirs.Withdraw(ctx, &electionv1.WithdrawRequest{ID: id, Candidate: "b"}))(t).Term, 4, "a")
	is("watch withdraw", terms.next().Term, 4, "a")
	is("get", must(theirs.GetTerm(ctx, &electionv1.GetTermRequest{ID: id}))(t).Term, 4, "a")
	// Closing the primitive gives up what its session has in it.
	must(mine.Close(ctx, &electionv1.CloseRequest{ID: id}))(t)
	is("watch close", terms.next().Term, 4, "")
}

func lock(t testing.TB, conn, other runtime.Conn) {
	ctx, id := calling(t), id("lock")
	mine, theirs := must(conn.Lock(nil))(t), must(other.Lock(nil))(t)
	for _, l := range []lockv1.LockServer{mine, theirs} {
		must(l.Create(ctx, &lockv1.CreateRequest{ID: id}))(t)
	}
	refused(t, codes.NotFound)(mine.GetLock(ctx, &lockv1.GetLockRequest{ID: id}))
	refused(t, codes.Aborted)(mine.Unlock(ctx, &lockv1.UnlockRequest{ID: id}))
	first := must(mine.Lock(ctx, &lockv1.LockRequest{ID: id}))(t).Version
	equal(t, "version", must(theirs.GetLock(ctx, &lockv1.GetLockRequest{ID: id}))(t).Version, first)
	refused(t, codes.Aborted)(theirs.Unlock(ctx, &lockv1.UnlockRequest{ID: id}))
	began, nothing := time.Now(), time.Duration(0)
	refused(t, codes.Aborted)(theirs.Lock(ctx, &lockv1.LockRequest{ID: id, Timeout: &soon}))
	if waited := time.Since(began); waited < soon {
		t.Fatalf("gave up after %v", waited)
	}
	refused(t, codes.Aborted)(theirs.Lock(ctx, &lockv1.LockRequest{ID: id, Timeout: &nothing}))
	waiting := background(func() (*lockv1.LockResponse, error) {
		return theirs.Lock(ctx, &lockv1.LockRequest{ID: id})
	})
	must(mine.Unlock(ctx, &lockv1.UnlockRequest{ID: id}))(t)
	if second := waiting(t).Version; second <= first {
		t.Fatalf("version %d after %d", second, first)
	}
	must(theirs.Close(ctx, &lockv1.CloseRequest{ID: id}))(t)
	must(mine.Lock(ctx, &lockv1.LockRequest{ID: id}))(t)
	must(mine.Unlock(ctx, &lockv1.UnlockRequest{ID: id}))(t)
}

func multiMap(t testing.TB, conn, other runtime.Conn) {
	ctx, id := calling(t), id("multimap")
	m, theirs := must(conn.MultiMap(nil))(t), must(other.MultiMap(nil))(t)
	for _, m := range []multimapv1.MultiMapServer{m, theirs} {
		must(m.Create(ctx, &multimapv1.CreateRequest{ID: id}))(t)
	}
	events := streaming(t, func(s *sink[*multimapv1.EventsResponse]) error {
		return theirs.Events(&multimapv1.EventsRequest{ID: id}, s)
	})
	events.settle(func(round int) {
		must(m.Put(ctx, &multimapv1.PutRequest{ID: id, Key: "a", Value: fmt.Sprint(round)}))(t)
	}, func(e *multimapv1.EventsResponse, round int) bool {
		return e.Event.GetAdded().GetValue() == fmt.Sprint(round)
	})
	refused(t, codes.AlreadyExists)(m.Put(ctx, &multimapv1.PutRequest{ID: id, Key: "a", Value: "1"}))
	must(m.Replace(ctx, &multimapv1.ReplaceRequest{ID: id, Key: "a", Values: []string{"1", "x"}}))(t)
	equal(t, "event of replace", events.next().Event.GetAdded().GetValue(), "x")
	values := must(theirs.Get(ctx, &multimapv1.GetRequest{ID: id, Key: "a"}))(t).Values
	slices.Sort(values)
	equal(t, "values", fmt.Sprint(values), "[1 x]")
	// The driver does not say which value is asked for, only the key (README.md).
	equal(t, "contains", must(m.Contains(ctx, &multimapv1.ContainsRequest{ID: id, Key: "a", Value: "x"}))(t).Result, false)
	equal(t, "put all", must(m.PutAll(ctx, &multimapv1.PutAllRequest{ID: id, Key: "b", Values: []string{"1", "2"}}))(t).Updated, true)
	equal(t, "again", must(m.PutAll(ctx, &multimapv1.PutAllRequest{ID: id, Key: "b", Values: []string{"1"}}))(t).Updated, false)
	many := []multimapv1.Entry{{Key: "c", Values: []string{"1"}}, {Key: "d", Values: []string{"1", "2"}}, {Key: "e", Values: []string{"3"}}}
	equal(t, "put entries", must(m.PutEntries(ctx, &multimapv1.PutEntriesRequest{ID: id, Entries: many}))(t).Updated, true)
	equal(t, "size", must(theirs.Size(ctx, &multimapv1.SizeRequest{ID: id}))(t).Size_, 5)
	must(m.Remove(ctx, &multimapv1.RemoveRequest{ID: id, Key: "b", Value: "1"}))(t)
	refused(t, codes.NotFound)(m.Remove(ctx, &multimapv1.RemoveRequest{ID: id, Key: "b", Value: "1"}))
	equal(t, "remove all", must(m.RemoveAll(ctx, &multimapv1.RemoveAllRequest{ID: id, Key: "b", Values: []string{"2"}}))(t).Updated, true)
	equal(t, "remove entries", must(m.RemoveEntries(ctx, &multimapv1.RemoveEntriesRequest{ID: id, Entries: many[1:]}))(t).Updated, true)
	entries := all(t, func(s *sink[*multimapv1.EntriesResponse]) error {
		return theirs.Entries(&multimapv1.EntriesRequest{ID: id}, s)
	})
	equal(t, "a and c are left", len(entries), 2)
	must(m.Clear(ctx, &multimapv1.ClearRequest{ID: id}))(t)
	equal(t, "size after clear", must(m.Size(ctx, &multimapv1.SizeRequest{ID: id}))(t).Size_, 0)
}

func set(t testing.TB, conn, other runtime.Conn) {
	ctx, id := calling(t), id("set")
	s, theirs := must(conn.Set(nil))(t), must(other.Set(nil))(t)
	for _, s := range []setv1.SetServer{s, theirs} {
		must(s.Create(ctx, &setv1.CreateRequest{ID: id}))(t)
	}
	element := func(value string) setv1.Element { return setv1.Element{Value: value} }
	contains := func(value string) bool {
		return must(theirs.Contains(ctx, &setv1.ContainsRequest{ID: id, Element: element(value)}))(t).Contains
	}
	events := streaming(t, func(s *sink[*setv1.EventsResponse]) error {
		return theirs.Events(&setv1.EventsRequest{ID: id}, s)
	})
	a := element(neighbour(t, 0))
	rounds, last := 0, ""
	events.settle(func(round int) {
		rounds, last = round, neighbour(t, round)
		must(s.Add(ctx, &setv1.AddRequest{ID: id, Element: element(last)}))(t)
	}, func(e *setv1.EventsResponse, _ int) bool { return e.Event.GetAdded().Element.Value == last })
	refused(t, codes.AlreadyExists)(s.Add(ctx, &setv1.AddRequest{ID: id, Element: element(last)}))
	equal(t, "contains", contains(last), true)
	must(s.Remove(ctx, &setv1.RemoveRequest{ID: id, Element: element(last)}))(t)
	refused(t, codes.NotFound)(s.Remove(ctx, &setv1.RemoveRequest{ID: id, Element: element(last)}))
	removed := events.next().Event.GetRemoved()
	equal(t, "removed", removed.Element.Value, last)
	equal(t, "expired", removed.Expired, false)
	must(s.Add(ctx, &setv1.AddRequest{ID: id, Element: a, TTL: &soon}))(t)
	equal(t, "event of add", events.next().Event.GetAdded().Element, a)
	equal(t, "event of expiry", events.next().Event.GetRemoved().Expired, true)
	equal(t, "contains after expiry", contains(a.Value), false)
	for i := range 20 {
		must(s.Add(ctx, &setv1.AddRequest{ID: id, Element: element(fmt.Sprint("e", i))}))(t)
	}
	equal(t, "size", must(theirs.Size(ctx, &setv1.SizeRequest{ID: id}))(t).Size_, uint32(rounds+19))
	elements := all(t, func(s *sink[*setv1.ElementsResponse]) error {
		return theirs.Elements(&setv1.ElementsRequest{ID: id}, s)
	})
	equal(t, "elements", len(elements), rounds+19)
	must(s.Clear(ctx, &setv1.ClearRequest{ID: id}))(t)
	equal(t, "size after clear", must(theirs.Size(ctx, &setv1.SizeRequest{ID: id}))(t).Size_, 0)
}
