package multiraft

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	counterv1 "github.com/atomix/runtime/api/atomix/runtime/counter/v1"
	electionv1 "github.com/atomix/runtime/api/atomix/runtime/election/v1"
	lockv1 "github.com/atomix/runtime/api/atomix/runtime/lock/v1"
	mapv1 "github.com/atomix/runtime/api/atomix/runtime/map/v1"
	"github.com/atomix/runtime/sdk/pkg/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	. "ringraft.test/interop/harness"
)

// things are what a driver has open in these parts: one primitive of four kinds, all of one name
// and a letter.
type things struct {
	counter  counterv1.CounterServer
	lock     lockv1.LockServer
	election electionv1.LeaderElectionServer
	entries  mapv1.MapServer
}

func open(t testing.TB, conn runtime.Conn, name string) things {
	t.Helper()
	ctx := Calling(t)
	its := things{Must(conn.Counter(nil))(t), Must(conn.Lock(nil))(t), Must(conn.LeaderElection(nil))(t), Must(conn.Map(nil))(t)}
	Must(its.counter.Create(ctx, &counterv1.CreateRequest{ID: id(name + "-c")}))(t)
	Must(its.lock.Create(ctx, &lockv1.CreateRequest{ID: id(name + "-l")}))(t)
	Must(its.election.Create(ctx, &electionv1.CreateRequest{ID: id(name + "-e")}))(t)
	Must(its.entries.Create(ctx, &mapv1.CreateRequest{ID: id(name + "-m")}))(t)
	return its
}

// alive: for longer than the session timeout nothing is asked; what is held stays, what waits goes
// on waiting, and a listener hears what comes.
func alive(t testing.TB, conn, other runtime.Conn) {
	ctx := Calling(t)
	mine, theirs := open(t, conn, "alive"), open(t, other, "alive")
	Must(mine.lock.Lock(ctx, &lockv1.LockRequest{ID: id("alive-l")}))(t)
	waiting := Background(func() (*lockv1.LockResponse, error) {
		return theirs.lock.Lock(ctx, &lockv1.LockRequest{ID: id("alive-l")})
	})
	Must(mine.election.Enter(ctx, &electionv1.EnterRequest{ID: id("alive-e"), Candidate: "a"}))(t)
	events := mapEvents(t, theirs.entries, "alive-m")
	events.Settle(func(round int) {
		Must(mine.entries.Put(ctx, &mapv1.PutRequest{ID: id("alive-m"), Key: "a", Value: []byte(fmt.Sprint(round))}))(t)
	}, isValue)
	others := listening(t, conn, other, "alive")

	long := 2 * SessionTimeout(t)
	Must(mine.entries.Put(ctx, &mapv1.PutRequest{ID: id("alive-m"), Key: "a", Value: []byte("long"), TTL: &long}))(t)
	Equal(t, "event of put", valueOf(events.Next()), "long")
	Equal(t, "event of expiry", events.Next().Event.GetRemoved().Expired, true)

	Equal(t, "leader", Must(theirs.election.GetTerm(ctx, &electionv1.GetTermRequest{ID: id("alive-e")}))(t).Term.Leader, "a")
	Must(mine.lock.Unlock(ctx, &lockv1.UnlockRequest{ID: id("alive-l")}))(t)
	waiting(t)
	others()
	Equal(t, "counter", Must(mine.counter.Increment(ctx, &counterv1.IncrementRequest{ID: id("alive-c"), Delta: 1}))(t).Value, 1)
}

// busy: many commands and queries while keep-alives go by, each of which says which of them are
// still open, by a filter that also says so of some that are not. None is cancelled for it, and each
// query sees what was written before it.
func busy(t testing.TB, conn, other runtime.Conn) {
	ctx, name := Calling(t), id("busy-m")
	mine, theirs := open(t, conn, "busy"), open(t, other, "busy")
	events := mapEvents(t, theirs.entries, "busy-m")
	events.Settle(func(round int) {
		Must(mine.entries.Put(ctx, &mapv1.PutRequest{ID: name, Key: "a", Value: []byte(fmt.Sprint(round))}))(t)
	}, isValue)
	const workers = 32
	stop, done := make(chan struct{}), make(chan error, workers)
	var rounds atomic.Int64
	for worker := range workers {
		go func() {
			key := fmt.Sprint("worker ", worker)
			for round := 0; ; round++ {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				value := fmt.Sprint(round)
				if _, err := mine.entries.Put(ctx, &mapv1.PutRequest{ID: name, Key: key, Value: []byte(value)}); err != nil {
					done <- err
					return
				}
				got, err := theirs.entries.Get(ctx, &mapv1.GetRequest{ID: name, Key: key})
				if err == nil && string(got.Value.Value) != value {
					err = fmt.Errorf("%s: %q after %q", key, got.Value.Value, value)
				}
				if err != nil {
					done <- err
					return
				}
				rounds.Add(1)
			}
		}()
	}
	// Three keep-alives of each session.
	long := SessionTimeout(t) * 3 / 4
	Must(mine.entries.Put(ctx, &mapv1.PutRequest{ID: name, Key: "a", TTL: &long}))(t)
	for {
		event := events.Next().Event
		if removed := event.GetRemoved(); removed != nil {
			Equal(t, "expired", fmt.Sprint(event.Key, removed.Expired), "atrue")
			break
		}
	}
	close(stop)
	for range workers {
		Must(0, <-done)(t)
	}
	t.Logf("%d puts and gets", rounds.Load())
}

// silent: a driver that is cut off loses what it holds when its session times out, and is told so
// when it is back.
func silent(t testing.TB, _, other runtime.Conn) {
	ctx, network := Calling(t), &Wire{}
	mine, theirs := open(t, connect(t, network, Config(t)), "silent"), open(t, other, "silent")
	Must(mine.lock.Lock(ctx, &lockv1.LockRequest{ID: id("silent-l")}))(t)
	Must(mine.election.Enter(ctx, &electionv1.EnterRequest{ID: id("silent-e"), Candidate: "mine"}))(t)
	Must(mine.counter.Set(ctx, &counterv1.SetRequest{ID: id("silent-c"), Value: 7}))(t)
	Must(theirs.election.Enter(ctx, &electionv1.EnterRequest{ID: id("silent-e"), Candidate: "theirs"}))(t)
	terms := Streaming(t, func(s *Sink[*electionv1.WatchResponse]) error {
		return theirs.election.Watch(&electionv1.WatchRequest{ID: id("silent-e")}, s)
	})
	Equal(t, "leader", terms.Next().Term.Leader, "mine")

	began := time.Now()
	network.Cut(t)
	Must(theirs.lock.Lock(ctx, &lockv1.LockRequest{ID: id("silent-l")}))(t)
	// The last keep-alive was up to a quarter of the timeout ago.
	if waited := time.Since(began); waited < SessionTimeout(t)/2 {
		t.Fatalf("the session of the holder was given up after %v", waited)
	}
	term := terms.Next().Term
	Equal(t, "next leader", term.Leader, "theirs")
	Equal(t, "its term", term.Term, 2)

	network.Mend()
	_, err := mine.counter.Increment(ctx, &counterv1.IncrementRequest{ID: id("silent-c"), Delta: 1})
	// The driver knows no word for it: PERMISSION_DENIED becomes INTERNAL (README.md).
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "session") {
		t.Fatalf("%v instead of a session that is not there", err)
	}
	Equal(t, "counter", Must(theirs.counter.Get(ctx, &counterv1.GetRequest{ID: id("silent-c")}))(t).Value, 7)
}

// restarted: the node is killed while commands are under way. Each counts once, what is held stays
// held, and no listener misses or hears twice.
func restarted(t testing.TB, conn, other runtime.Conn) {
	ctx := Calling(t)
	mine, theirs := open(t, conn, "restart"), open(t, other, "restart")
	version := Must(mine.lock.Lock(ctx, &lockv1.LockRequest{ID: id("restart-l")}))(t).Version
	waiting := Background(func() (*lockv1.LockResponse, error) {
		return theirs.lock.Lock(ctx, &lockv1.LockRequest{ID: id("restart-l")})
	})
	Must(mine.election.Enter(ctx, &electionv1.EnterRequest{ID: id("restart-e"), Candidate: "a"}))(t)
	terms := Streaming(t, func(s *Sink[*electionv1.WatchResponse]) error {
		return theirs.election.Watch(&electionv1.WatchRequest{ID: id("restart-e")}, s)
	})
	Equal(t, "leader", terms.Next().Term.Leader, "a")
	put := func(value string) error {
		_, err := mine.entries.Put(ctx, &mapv1.PutRequest{ID: id("restart-m"), Key: "a", Value: []byte(value)})
		return err
	}
	events := mapEvents(t, theirs.entries, "restart-m")
	events.Settle(func(round int) { Must(0, put(fmt.Sprint(round)))(t) }, isValue)
	others := listening(t, conn, other, "restart")

	const counters = 8
	stop, done := make(chan struct{}), make(chan error, counters+1)
	var increments, puts atomic.Int64
	work := func(acknowledged *atomic.Int64, one func() error) {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := one(); err != nil {
				done <- err
				return
			}
			acknowledged.Add(1)
		}
	}
	for range counters {
		go work(&increments, func() error {
			_, err := mine.counter.Increment(ctx, &counterv1.IncrementRequest{ID: id("restart-c"), Delta: 1})
			return err
		})
	}
	go work(&puts, func() error { return put(fmt.Sprint("event ", puts.Load())) })
	heard := int64(0)
	hear := func(all int64) {
		t.Helper()
		for ; heard < all; heard++ {
			Equal(t, "event", valueOf(events.Next()), fmt.Sprint("event ", heard))
		}
	}
	hear(10)
	Restart(t)
	// One may have been under way when the node was killed: those after it show that all goes on.
	before := increments.Load()
	hear(puts.Load() + 10)
	close(stop)
	for range counters + 1 {
		Must(0, <-done)(t)
	}
	hear(puts.Load())
	total := Must(theirs.counter.Get(ctx, &counterv1.GetRequest{ID: id("restart-c")}))(t).Value
	Equal(t, "increments", total, increments.Load())
	t.Logf("%d increments before the restart, %d in all, %d puts", before, total, heard)

	Equal(t, "lock", Must(theirs.lock.GetLock(ctx, &lockv1.GetLockRequest{ID: id("restart-l")}))(t).Version, version)
	Must(mine.lock.Unlock(ctx, &lockv1.UnlockRequest{ID: id("restart-l")}))(t)
	waiting(t)
	Must(theirs.election.Enter(ctx, &electionv1.EnterRequest{ID: id("restart-e"), Candidate: "b"}))(t)
	term := terms.Next().Term
	for len(term.Candidates) == 0 {
		// A watch that begins again begins with the current term.
		Equal(t, "leader", term.Leader, "a")
		term = terms.Next().Term
	}
	Equal(t, "candidates", fmt.Sprint(term.Candidates), "[b]")
	others()
}

// closed: a driver that is closed gives up what it holds at once.
func closed(t testing.TB, _, other runtime.Conn) {
	ctx, conn := Calling(t), connect(t, runtime.NewNetwork(), Lasting(t))
	mine, theirs := open(t, conn, "closed"), open(t, other, "closed")
	Must(mine.lock.Lock(ctx, &lockv1.LockRequest{ID: id("closed-l")}))(t)
	waiting := Background(func() (*lockv1.LockResponse, error) {
		return theirs.lock.Lock(ctx, &lockv1.LockRequest{ID: id("closed-l")})
	})
	Must(0, conn.Close(ctx))(t)
	waiting(t)
}
