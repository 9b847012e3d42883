package interop

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
	ctx := calling(t)
	its := things{must(conn.Counter(nil))(t), must(conn.Lock(nil))(t), must(conn.LeaderElection(nil))(t), must(conn.Map(nil))(t)}
	must(its.counter.Create(ctx, &counterv1.CreateRequest{ID: id(name + "-c")}))(t)
	must(its.lock.Create(ctx, &lockv1.CreateRequest{ID: id(name + "-l")}))(t)
	must(its.election.Create(ctx, &electionv1.CreateRequest{ID: id(name + "-e")}))(t)
	must(its.entries.Create(ctx, &mapv1.CreateRequest{ID: id(name + "-m")}))(t)
	return its
}

// alive: for longer than the session timeout nothing is asked; what is held stays, what waits goes
// on waiting, and a listener hears what comes.
func alive(t testing.TB, conn, other runtime.Conn) {
	ctx := calling(t)
	mine, theirs := open(t, conn, "alive"), open(t, other, "alive")
	must(mine.lock.Lock(ctx, &lockv1.LockRequest{ID: id("alive-l")}))(t)
	waiting := background(func() (*lockv1.LockResponse, error) {
		return theirs.lock.Lock(ctx, &lockv1.LockRequest{ID: id("alive-l")})
	})
	must(mine.election.Enter(ctx, &electionv1.EnterRequest{ID: id("alive-e"), Candidate: "a"}))(t)
	events := mapEvents(t, theirs.entries, "alive-m")
	events.settle(func(round int) {
		must(mine.entries.Put(ctx, &mapv1.PutRequest{ID: id("alive-m"), Key: "a", Value: []byte(fmt.Sprint(round))}))(t)
	}, isValue)
	others := listening(t, conn, other, "alive")

	long := 2 * sessionTimeout(t)
	must(mine.entries.Put(ctx, &mapv1.PutRequest{ID: id("alive-m"), Key: "a", Value: []byte("long"), TTL: &long}))(t)
	equal(t, "event of put", valueOf(events.next()), "long")
	equal(t, "event of expiry", events.next().Event.GetRemoved().Expired, true)

	equal(t, "leader", must(theirs.election.GetTerm(ctx, &electionv1.GetTermRequest{ID: id("alive-e")}))(t).Term.Leader, "a")
	must(mine.lock.Unlock(ctx, &lockv1.UnlockRequest{ID: id("alive-l")}))(t)
	waiting(t)
	others()
	equal(t, "counter", must(mine.counter.Increment(ctx, &counterv1.IncrementRequest{ID: id("alive-c"), Delta: 1}))(t).Value, 1)
}

// silent: a driver that is cut off loses what it holds when its session times out, and is told so
// when it is back.
func silent(t testing.TB, _, other runtime.Conn) {
	ctx, network := calling(t), &wire{}
	mine, theirs := open(t, connect(t, network), "silent"), open(t, other, "silent")
	must(mine.lock.Lock(ctx, &lockv1.LockRequest{ID: id("silent-l")}))(t)
	must(mine.election.Enter(ctx, &electionv1.EnterRequest{ID: id("silent-e"), Candidate: "mine"}))(t)
	must(mine.counter.Set(ctx, &counterv1.SetRequest{ID: id("silent-c"), Value: 7}))(t)
	must(theirs.election.Enter(ctx, &electionv1.EnterRequest{ID: id("silent-e"), Candidate: "theirs"}))(t)
	terms := streaming(t, func(s *sink[*electionv1.WatchResponse]) error {
		return theirs.election.Watch(&electionv1.WatchRequest{ID: id("silent-e")}, s)
	})
	equal(t, "leader", terms.next().Term.Leader, "mine")

	began := time.Now()
	network.set(t, true)
	must(theirs.lock.Lock(ctx, &lockv1.LockRequest{ID: id("silent-l")}))(t)
	// The last keep-alive was up to a quarter of the timeout ago.
	if waited := time.Since(began); waited < sessionTimeout(t)/2 {
		t.Fatalf("the session of the holder was given up after %v", waited)
	}
	term := terms.next().Term
	equal(t, "next leader", term.Leader, "theirs")
	equal(t, "its term", term.Term, 2)

	network.set(t, false)
	_, err := mine.counter.Increment(ctx, &counterv1.IncrementRequest{ID: id("silent-c"), Delta: 1})
	// The driver knows no word for it: PERMISSION_DENIED becomes INTERNAL (README.md).
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "session") {
		t.Fatalf("%v instead of a session that is not there", err)
	}
	equal(t, "counter", must(theirs.counter.Get(ctx, &counterv1.GetRequest{ID: id("silent-c")}))(t).Value, 7)
}

// restarted: the node is killed while commands are under way. Each counts once, what is held stays
// held, and no listener misses or hears twice.
func restarted(t testing.TB, conn, other runtime.Conn) {
	ctx := calling(t)
	mine, theirs := open(t, conn, "restart"), open(t, other, "restart")
	version := must(mine.lock.Lock(ctx, &lockv1.LockRequest{ID: id("restart-l")}))(t).Version
	waiting := background(func() (*lockv1.LockResponse, error) {
		return theirs.lock.Lock(ctx, &lockv1.LockRequest{ID: id("restart-l")})
	})
	must(mine.election.Enter(ctx, &electionv1.EnterRequest{ID: id("restart-e"), Candidate: "a"}))(t)
	terms := streaming(t, func(s *sink[*electionv1.WatchResponse]) error {
		return theirs.election.Watch(&electionv1.WatchRequest{ID: id("restart-e")}, s)
	})
	equal(t, "leader", terms.next().Term.Leader, "a")
	put := func(value string) error {
		_, err := mine.entries.Put(ctx, &mapv1.PutRequest{ID: id("restart-m"), Key: "a", Value: []byte(value)})
		return err
	}
	events := mapEvents(t, theirs.entries, "restart-m")
	events.settle(func(round int) { must(0, put(fmt.Sprint(round)))(t) }, isValue)
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
			equal(t, "event", valueOf(events.next()), fmt.Sprint("event ", heard))
		}
	}
	hear(10)
	restart(t)
	// One may have been under way when the node was killed: those after it show that all goes on.
	before := increments.Load()
	hear(puts.Load() + 10)
	close(stop)
	for range counters + 1 {
		must(0, <-done)(t)
	}
	hear(puts.Load())
	total := must(theirs.counter.Get(ctx, &counterv1.GetRequest{ID: id("restart-c")}))(t).Value
	equal(t, "increments", total, increments.Load())
	t.Logf("%d increments before the restart, %d in all, %d puts", before, total, heard)

	equal(t, "lock", must(theirs.lock.GetLock(ctx, &lockv1.GetLockRequest{ID: id("restart-l")}))(t).Version, version)
	must(mine.lock.Unlock(ctx, &lockv1.UnlockRequest{ID: id("restart-l")}))(t)
	waiting(t)
	must(theirs.election.Enter(ctx, &electionv1.EnterRequest{ID: id("restart-e"), Candidate: "b"}))(t)
	term := terms.next().Term
	for len(term.Candidates) == 0 {
		// A watch that begins again begins with the current term.
		equal(t, "leader", term.Leader, "a")
		term = terms.next().Term
	}
	equal(t, "candidates", fmt.Sprint(term.Candidates), "[b]")
	others()
}

// closed: a driver that is closed gives up what it holds at once.
func closed(t testing.TB, conn, other runtime.Conn) {
	ctx := calling(t)
	mine, theirs := open(t, conn, "closed"), open(t, other, "closed")
	must(mine.lock.Lock(ctx, &lockv1.LockRequest{ID: id("closed-l")}))(t)
	waiting := background(func() (*lockv1.LockResponse, error) {
		return theirs.lock.Lock(ctx, &lockv1.LockRequest{ID: id("closed-l")})
	})
	must(0, conn.Close(ctx))(t)
	waiting(t)
	must(0, other.Close(ctx))(t)
}
