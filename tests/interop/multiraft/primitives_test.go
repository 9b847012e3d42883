package multiraft

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

	. "ringraft.test/interop/harness"
)

// soon is a time to live, or to wait for a lock.
var soon = 300 * time.Millisecond

func counter(t testing.TB, conn, other runtime.Conn) {
	ctx, id := Calling(t), id("counter")
	mine, theirs := Must(conn.Counter(nil))(t), Must(other.Counter(nil))(t)
	for _, c := range []counterv1.CounterServer{mine, theirs} {
		Must(c.Create(ctx, &counterv1.CreateRequest{ID: id}))(t)
	}
	get := func(c counterv1.CounterServer) int64 {
		return Must(c.Get(ctx, &counterv1.GetRequest{ID: id}))(t).Value
	}
	Equal(t, "new", get(mine), 0)
	Equal(t, "set", Must(mine.Set(ctx, &counterv1.SetRequest{ID: id, Value: 40}))(t).Value, 40)
	Equal(t, "increment", Must(mine.Increment(ctx, &counterv1.IncrementRequest{ID: id, Delta: 3}))(t).Value, 43)
	Equal(t, "decrement", Must(theirs.Decrement(ctx, &counterv1.DecrementRequest{ID: id, Delta: 1}))(t).Value, 42)
	Equal(t, "what the other wrote", get(mine), 42)
	Equal(t, "update", Must(mine.Update(ctx, &counterv1.UpdateRequest{ID: id, Check: 42, Update: -7}))(t).Value, -7)
	Refused(t, codes.Aborted)(mine.Update(ctx, &counterv1.UpdateRequest{ID: id, Check: 42, Update: 1}))
	Equal(t, "after a conflict", get(theirs), -7)
	Must(theirs.Close(ctx, &counterv1.CloseRequest{ID: id}))(t)
	Must(theirs.Create(ctx, &counterv1.CreateRequest{ID: id}))(t)
	Equal(t, "after close and create", get(theirs), -7)
}

func counterMap(t testing.TB, conn, other runtime.Conn) {
	ctx, id := Calling(t), id("countermap")
	m, theirs := Must(conn.CounterMap(nil))(t), Must(other.CounterMap(nil))(t)
	for _, m := range []countermapv1.CounterMapServer{m, theirs} {
		Must(m.Create(ctx, &countermapv1.CreateRequest{ID: id}))(t)
	}
	events := Streaming(t, func(s *Sink[*countermapv1.EventsResponse]) error {
		return theirs.Events(&countermapv1.EventsRequest{ID: id}, s)
	})
	events.Settle(func(round int) {
		Must(m.Set(ctx, &countermapv1.SetRequest{ID: id, Key: "a", Value: int64(round)}))(t)
	}, func(e *countermapv1.EventsResponse, round int) bool {
		updated := e.Event.GetUpdated()
		return updated != nil && updated.Value == int64(round) || round == 1 && e.Event.GetInserted() != nil
	})
	before := Must(m.Get(ctx, &countermapv1.GetRequest{ID: id, Key: "a"}))(t).Value
	Equal(t, "increment", Must(m.Increment(ctx, &countermapv1.IncrementRequest{ID: id, Key: "a", Delta: 5}))(t).PrevValue, before)
	Equal(t, "event of increment", events.Next().Event.GetUpdated().Value, before+5)
	Equal(t, "decrement", Must(m.Decrement(ctx, &countermapv1.DecrementRequest{ID: id, Key: "a"}))(t).PrevValue, before+5)
	Equal(t, "0 is 1", events.Next().Event.GetUpdated().Value, before+4)
	Refused(t, codes.Aborted)(m.Remove(ctx, &countermapv1.RemoveRequest{ID: id, Key: "a", PrevValue: before}))
	Must(m.Remove(ctx, &countermapv1.RemoveRequest{ID: id, Key: "a", PrevValue: before + 4}))(t)
	Equal(t, "event of removal", events.Next().Event.GetRemoved().Value, before+4)
	Refused(t, codes.NotFound)(m.Get(ctx, &countermapv1.GetRequest{ID: id, Key: "a"}))

	for i := range 20 {
		Must(m.Insert(ctx, &countermapv1.InsertRequest{ID: id, Key: fmt.Sprint("k", i), Value: int64(i)}))(t)
	}
	Refused(t, codes.AlreadyExists)(m.Insert(ctx, &countermapv1.InsertRequest{ID: id, Key: "k0"}))
	Refused(t, codes.Unimplemented)(m.Lock(ctx, &countermapv1.LockRequest{ID: id, Keys: []string{"k0"}}))
	Refused(t, codes.Unimplemented)(m.Unlock(ctx, &countermapv1.UnlockRequest{ID: id, Keys: []string{"k0"}}))
	// The driver forgets what the value has to be: it asks for 0 (README.md).
	Refused(t, codes.Aborted)(m.Update(ctx, &countermapv1.UpdateRequest{ID: id, Key: "k1", Value: 9, PrevValue: 1}))
	Must(m.Update(ctx, &countermapv1.UpdateRequest{ID: id, Key: "k0", Value: 9, PrevValue: 7}))(t)
	Equal(t, "size", Must(theirs.Size(ctx, &countermapv1.SizeRequest{ID: id}))(t).Size_, 20)
	entries := All(t, func(s *Sink[*countermapv1.EntriesResponse]) error {
		return theirs.Entries(&countermapv1.EntriesRequest{ID: id}, s)
	})
	sum := int64(0)
	for _, entry := range entries {
		sum += entry.Entry.Value
	}
	Equal(t, "entries", len(entries), 20)
	Equal(t, "their sum", sum, 19*20/2+9)
	Must(m.Clear(ctx, &countermapv1.ClearRequest{ID: id}))(t)
	Equal(t, "size after clear", Must(m.Size(ctx, &countermapv1.SizeRequest{ID: id}))(t).Size_, 0)
}

func election(t testing.TB, conn, other runtime.Conn) {
	ctx, id := Calling(t), id("election")
	mine, theirs := Must(conn.LeaderElection(nil))(t), Must(other.LeaderElection(nil))(t)
	for _, e := range []electionv1.LeaderElectionServer{mine, theirs} {
		Must(e.Create(ctx, &electionv1.CreateRequest{ID: id}))(t)
	}
	is := func(what string, term electionv1.Term, number uint64, leader string, candidates ...string) {
		t.Helper()
		if term.Term != number || term.Leader != leader || !slices.Equal(term.Candidates, candidates) {
			t.Fatalf("%s: %v instead of %d %s %v", what, term, number, leader, candidates)
		}
	}
	is("before", Must(mine.GetTerm(ctx, &electionv1.GetTermRequest{ID: id}))(t).Term, 0, "")
	is("a", Must(mine.Enter(ctx, &electionv1.EnterRequest{ID: id, Candidate: "a"}))(t).Term, 1, "a")
	terms := Streaming(t, func(s *Sink[*electionv1.WatchResponse]) error {
		return theirs.Watch(&electionv1.WatchRequest{ID: id}, s)
	})
	is("watch begins", terms.Next().Term, 1, "a")
	is("b", Must(theirs.Enter(ctx, &electionv1.EnterRequest{ID: id, Candidate: "b"}))(t).Term, 1, "a", "b")
	is("watch b", terms.Next().Term, 1, "a", "b")
	is("c", Must(theirs.Enter(ctx, &electionv1.EnterRequest{ID: id, Candidate: "c"}))(t).Term, 1, "a", "b", "c")
	is("watch c", terms.Next().Term, 1, "a", "b", "c")
	is("anoint", Must(mine.Anoint(ctx, &electionv1.AnointRequest{ID: id, Candidate: "c"}))(t).Term, 2, "c", "a", "b")
	is("watch anoint", terms.Next().Term, 2, "c", "a", "b")
	is("promote", Must(mine.Promote(ctx, &electionv1.PromoteRequest{ID: id, Candidate: "b"}))(t).Term, 2, "c", "b", "a")
	is("watch promote", terms.Next().Term, 2, "c", "b", "a")
	is("demote", Must(mine.Demote(ctx, &electionv1.DemoteRequest{ID: id, Candidate: "c"}))(t).Term, 3, "b", "c", "a")
	is("watch demote", terms.Next().Term, 3, "b", "c", "a")
	is("evict", Must(mine.Evict(ctx, &electionv1.EvictRequest{ID: id, Candidate: "c"}))(t).Term, 3, "b", "a")
	is("watch evict", terms.Next().Term, 3, "b", "a")
	is("withdraw", Must(theirs.Withdraw(ctx, &electionv1.WithdrawRequest{ID: id, Candidate: "b"}))(t).Term, 4, "a")
	is("watch withdraw", terms.Next().Term, 4, "a")
	is("get", Must(theirs.GetTerm(ctx, &electionv1.GetTermRequest{ID: id}))(t).Term, 4, "a")
	// Closing the primitive gives up what its session has in it.
	Must(mine.Close(ctx, &electionv1.CloseRequest{ID: id}))(t)
	is("watch close", terms.Next().Term, 4, "")
}

func lock(t testing.TB, conn, other runtime.Conn) {
	ctx, id := Calling(t), id("lock")
	mine, theirs := Must(conn.Lock(nil))(t), Must(other.Lock(nil))(t)
	for _, l := range []lockv1.LockServer{mine, theirs} {
		Must(l.Create(ctx, &lockv1.CreateRequest{ID: id}))(t)
	}
	Refused(t, codes.NotFound)(mine.GetLock(ctx, &lockv1.GetLockRequest{ID: id}))
	Refused(t, codes.Aborted)(mine.Unlock(ctx, &lockv1.UnlockRequest{ID: id}))
	first := Must(mine.Lock(ctx, &lockv1.LockRequest{ID: id}))(t).Version
	Equal(t, "version", Must(theirs.GetLock(ctx, &lockv1.GetLockRequest{ID: id}))(t).Version, first)
	Refused(t, codes.Aborted)(theirs.Unlock(ctx, &lockv1.UnlockRequest{ID: id}))
	began, nothing := time.Now(), time.Duration(0)
	Refused(t, codes.Aborted)(theirs.Lock(ctx, &lockv1.LockRequest{ID: id, Timeout: &soon}))
	if waited := time.Since(began); waited < soon {
		t.Fatalf("gave up after %v", waited)
	}
	Refused(t, codes.Aborted)(theirs.Lock(ctx, &lockv1.LockRequest{ID: id, Timeout: &nothing}))
	waiting := Background(func() (*lockv1.LockResponse, error) {
		return theirs.Lock(ctx, &lockv1.LockRequest{ID: id})
	})
	Must(mine.Unlock(ctx, &lockv1.UnlockRequest{ID: id}))(t)
	if second := waiting(t).Version; second <= first {
		t.Fatalf("version %d after %d", second, first)
	}
	Must(theirs.Close(ctx, &lockv1.CloseRequest{ID: id}))(t)
	Must(mine.Lock(ctx, &lockv1.LockRequest{ID: id}))(t)
	Must(mine.Unlock(ctx, &lockv1.UnlockRequest{ID: id}))(t)
}

func multiMap(t testing.TB, conn, other runtime.Conn) {
	ctx, id := Calling(t), id("multimap")
	m, theirs := Must(conn.MultiMap(nil))(t), Must(other.MultiMap(nil))(t)
	for _, m := range []multimapv1.MultiMapServer{m, theirs} {
		Must(m.Create(ctx, &multimapv1.CreateRequest{ID: id}))(t)
	}
	events := Streaming(t, func(s *Sink[*multimapv1.EventsResponse]) error {
		return theirs.Events(&multimapv1.EventsRequest{ID: id}, s)
	})
	events.Settle(func(round int) {
		Must(m.Put(ctx, &multimapv1.PutRequest{ID: id, Key: "a", Value: fmt.Sprint(round)}))(t)
	}, func(e *multimapv1.EventsResponse, round int) bool {
		return e.Event.GetAdded().GetValue() == fmt.Sprint(round)
	})
	Refused(t, codes.AlreadyExists)(m.Put(ctx, &multimapv1.PutRequest{ID: id, Key: "a", Value: "1"}))
	Must(m.Replace(ctx, &multimapv1.ReplaceRequest{ID: id, Key: "a", Values: []string{"1", "x"}}))(t)
	Equal(t, "event of replace", events.Next().Event.GetAdded().GetValue(), "x")
	values := Must(theirs.Get(ctx, &multimapv1.GetRequest{ID: id, Key: "a"}))(t).Values
	slices.Sort(values)
	Equal(t, "values", fmt.Sprint(values), "[1 x]")
	// The driver does not say which value is asked for, only the key (README.md).
	Equal(t, "contains", Must(m.Contains(ctx, &multimapv1.ContainsRequest{ID: id, Key: "a", Value: "x"}))(t).Result, false)
	Equal(t, "put all", Must(m.PutAll(ctx, &multimapv1.PutAllRequest{ID: id, Key: "b", Values: []string{"1", "2"}}))(t).Updated, true)
	Equal(t, "again", Must(m.PutAll(ctx, &multimapv1.PutAllRequest{ID: id, Key: "b", Values: []string{"1"}}))(t).Updated, false)
	many := []multimapv1.Entry{{Key: "c", Values: []string{"1"}}, {Key: "d", Values: []string{"1", "2"}}, {Key: "e", Values: []string{"3"}}}
	Equal(t, "put entries", Must(m.PutEntries(ctx, &multimapv1.PutEntriesRequest{ID: id, Entries: many}))(t).Updated, true)
	Equal(t, "size", Must(theirs.Size(ctx, &multimapv1.SizeRequest{ID: id}))(t).Size_, 5)
	Must(m.Remove(ctx, &multimapv1.RemoveRequest{ID: id, Key: "b", Value: "1"}))(t)
	Refused(t, codes.NotFound)(m.Remove(ctx, &multimapv1.RemoveRequest{ID: id, Key: "b", Value: "1"}))
	Equal(t, "remove all", Must(m.RemoveAll(ctx, &multimapv1.RemoveAllRequest{ID: id, Key: "b", Values: []string{"2"}}))(t).Updated, true)
	Equal(t, "remove entries", Must(m.RemoveEntries(ctx, &multimapv1.RemoveEntriesRequest{ID: id, Entries: many[1:]}))(t).Updated, true)
	entries := All(t, func(s *Sink[*multimapv1.EntriesResponse]) error {
		return theirs.Entries(&multimapv1.EntriesRequest{ID: id}, s)
	})
	Equal(t, "a and c are left", len(entries), 2)
	Must(m.Clear(ctx, &multimapv1.ClearRequest{ID: id}))(t)
	Equal(t, "size after clear", Must(m.Size(ctx, &multimapv1.SizeRequest{ID: id}))(t).Size_, 0)
}

func set(t testing.TB, conn, other runtime.Conn) {
	ctx, id := Calling(t), id("set")
	s, theirs := Must(conn.Set(nil))(t), Must(other.Set(nil))(t)
	for _, s := range []setv1.SetServer{s, theirs} {
		Must(s.Create(ctx, &setv1.CreateRequest{ID: id}))(t)
	}
	element := func(value string) setv1.Element { return setv1.Element{Value: value} }
	contains := func(value string) bool {
		return Must(theirs.Contains(ctx, &setv1.ContainsRequest{ID: id, Element: element(value)}))(t).Contains
	}
	events := Streaming(t, func(s *Sink[*setv1.EventsResponse]) error {
		return theirs.Events(&setv1.EventsRequest{ID: id}, s)
	})
	a := element(Neighbour(t, 0))
	rounds, last := 0, ""
	events.Settle(func(round int) {
		rounds, last = round, Neighbour(t, round)
		Must(s.Add(ctx, &setv1.AddRequest{ID: id, Element: element(last)}))(t)
	}, func(e *setv1.EventsResponse, _ int) bool { return e.Event.GetAdded().Element.Value == last })
	Refused(t, codes.AlreadyExists)(s.Add(ctx, &setv1.AddRequest{ID: id, Element: element(last)}))
	Equal(t, "contains", contains(last), true)
	Must(s.Remove(ctx, &setv1.RemoveRequest{ID: id, Element: element(last)}))(t)
	Refused(t, codes.NotFound)(s.Remove(ctx, &setv1.RemoveRequest{ID: id, Element: element(last)}))
	removed := events.Next().Event.GetRemoved()
	Equal(t, "removed", removed.Element.Value, last)
	Equal(t, "expired", removed.Expired, false)
	Must(s.Add(ctx, &setv1.AddRequest{ID: id, Element: a, TTL: &soon}))(t)
	Equal(t, "event of add", events.Next().Event.GetAdded().Element, a)
	Equal(t, "event of expiry", events.Next().Event.GetRemoved().Expired, true)
	Equal(t, "contains after expiry", contains(a.Value), false)
	for i := range 20 {
		Must(s.Add(ctx, &setv1.AddRequest{ID: id, Element: element(fmt.Sprint("e", i))}))(t)
	}
	Equal(t, "size", Must(theirs.Size(ctx, &setv1.SizeRequest{ID: id}))(t).Size_, uint32(rounds+19))
	elements := All(t, func(s *Sink[*setv1.ElementsResponse]) error {
		return theirs.Elements(&setv1.ElementsRequest{ID: id}, s)
	})
	Equal(t, "elements", len(elements), rounds+19)
	Must(s.Clear(ctx, &setv1.ClearRequest{ID: id}))(t)
	Equal(t, "size after clear", Must(theirs.Size(ctx, &setv1.SizeRequest{ID: id}))(t).Size_, 0)
}
