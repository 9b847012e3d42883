package rsm

import (
	"testing"

	"github.com/atomix/atomix/api/errors"
	counterv1 "github.com/atomix/atomix/api/runtime/counter/v1"
	countermapv1 "github.com/atomix/atomix/api/runtime/countermap/v1"
	electionv1 "github.com/atomix/atomix/api/runtime/election/v1"
	indexedmapv1 "github.com/atomix/atomix/api/runtime/indexedmap/v1"
	multimapv1 "github.com/atomix/atomix/api/runtime/multimap/v1"
	valuev1 "github.com/atomix/atomix/api/runtime/value/v1"
	"github.com/atomix/atomix/protocols/rsm/pkg/client"
	counterclient "github.com/atomix/atomix/protocols/rsm/pkg/client/counter/v1"
	countermapclient "github.com/atomix/atomix/protocols/rsm/pkg/client/countermap/v1"
	electionclient "github.com/atomix/atomix/protocols/rsm/pkg/client/election/v1"
	indexedmapclient "github.com/atomix/atomix/protocols/rsm/pkg/client/indexedmap/v1"
	multimapclient "github.com/atomix/atomix/protocols/rsm/pkg/client/multimap/v1"
	valueclient "github.com/atomix/atomix/protocols/rsm/pkg/client/value/v1"

	. "ringraft.test/interop/harness"
)

// kinds has a command, a query, an error and a stream of each kind that has no part of its own: what
// they mean is the same as in 2022.
func kinds(t testing.TB, mine, _ *client.ProtocolClient) {
	aCounter(t, mine)
	aCounterMap(t, mine)
	anElection(t, mine)
	anIndexedMap(t, mine)
	aMultiMap(t, mine)
	aValue(t, mine)
}

func aCounter(t testing.TB, mine *client.ProtocolClient) {
	ctx, id := Calling(t), id("kinds-c")
	c := counterclient.NewCounter(mine.Protocol, id)
	Must(0, c.Open(ctx))(t)
	Must(c.Set(ctx, &counterv1.SetRequest{ID: id, Value: 41}))(t)
	Equal(t, "counter", Must(c.Increment(ctx, &counterv1.IncrementRequest{ID: id, Delta: 1}))(t).Value, 42)
	refused(t, errors.IsConflict)(c.Update(ctx, &counterv1.UpdateRequest{ID: id, Check: 1, Update: 2}))
	Equal(t, "counter", Must(c.Get(ctx, &counterv1.GetRequest{ID: id}))(t).Value, 42)
	Must(0, c.Close(ctx))(t)
}

func aCounterMap(t testing.TB, mine *client.ProtocolClient) {
	ctx, id := Calling(t), id("kinds-cm")
	m := countermapclient.NewCounterMap(mine.Protocol, id)
	Must(0, m.Open(ctx))(t)
	events := Streaming(t, func(s *Sink[*countermapv1.EventsResponse]) error {
		return m.Events(&countermapv1.EventsRequest{ID: id}, s)
	})
	for range mine.Partitions() {
		Equal(t, "opening event", events.Next().Event.Event == nil, true)
	}
	Must(m.Increment(ctx, &countermapv1.IncrementRequest{ID: id, Key: "a", Delta: 5}))(t)
	Equal(t, "event", events.Next().Event.GetInserted().GetValue(), 5)
	refused(t, errors.IsNotFound)(m.Get(ctx, &countermapv1.GetRequest{ID: id, Key: "b"}))
	Equal(t, "countermap", Must(m.Get(ctx, &countermapv1.GetRequest{ID: id, Key: "a"}))(t).Value, 5)
	Must(0, m.Close(ctx))(t)
}

func anElection(t testing.TB, mine *client.ProtocolClient) {
	ctx, id := Calling(t), id("kinds-e")
	e := electionclient.NewLeaderElection(mine.Protocol, id)
	Must(0, e.Open(ctx))(t)
	Must(e.Enter(ctx, &electionv1.EnterRequest{ID: id, Candidate: "a"}))(t)
	terms := Streaming(t, func(s *Sink[*electionv1.WatchResponse]) error {
		return e.Watch(&electionv1.WatchRequest{ID: id}, s)
	})
	Equal(t, "the current term first", terms.Next().Term.Leader, "a")
	Must(e.Enter(ctx, &electionv1.EnterRequest{ID: id, Candidate: "b"}))(t)
	Equal(t, "candidates", terms.Next().Term.Candidates[0], "b")
	Equal(t, "anointed", Must(e.Anoint(ctx, &electionv1.AnointRequest{ID: id, Candidate: "b"}))(t).Term.Leader, "b")
	Equal(t, "term", Must(e.GetTerm(ctx, &electionv1.GetTermRequest{ID: id}))(t).Term.Term, 2)
	Must(0, e.Close(ctx))(t)
}

func anIndexedMap(t testing.TB, mine *client.ProtocolClient) {
	ctx, id := Calling(t), id("kinds-im")
	m := indexedmapclient.NewIndexedMap(mine.Protocol, id)
	Must(0, m.Open(ctx))(t)
	events := Streaming(t, func(s *Sink[*indexedmapv1.EventsResponse]) error {
		return m.Events(&indexedmapv1.EventsRequest{ID: id}, s)
	})
	Equal(t, "opening event", events.Next().Event.Event == nil, true)
	Must(m.Append(ctx, &indexedmapv1.AppendRequest{ID: id, Key: "a", Value: []byte("1")}))(t)
	Equal(t, "event", string(events.Next().Event.GetInserted().Value.Value), "1")
	refused(t, errors.IsAlreadyExists)(m.Append(ctx, &indexedmapv1.AppendRequest{ID: id, Key: "a"}))
	Equal(t, "indexedmap", Must(m.FirstEntry(ctx, &indexedmapv1.FirstEntryRequest{ID: id}))(t).Entry.Key, "a")
	refused(t, errors.IsNotFound)(m.NextEntry(ctx, &indexedmapv1.NextEntryRequest{ID: id, Index: 1}))
	Must(0, m.Close(ctx))(t)
}

func aMultiMap(t testing.TB, mine *client.ProtocolClient) {
	ctx, id := Calling(t), id("kinds-mm")
	m := multimapclient.NewMultiMap(mine.Protocol, id)
	Must(0, m.Open(ctx))(t)
	events := Streaming(t, func(s *Sink[*multimapv1.EventsResponse]) error {
		return m.Events(&multimapv1.EventsRequest{ID: id}, s)
	})
	for range mine.Partitions() {
		Equal(t, "opening event", events.Next().Event.Event == nil, true)
	}
	Must(m.Put(ctx, &multimapv1.PutRequest{ID: id, Key: "a", Value: "1"}))(t)
	Equal(t, "event", events.Next().Event.GetAdded().GetValue(), "1")
	refused(t, errors.IsAlreadyExists)(m.Put(ctx, &multimapv1.PutRequest{ID: id, Key: "a", Value: "1"}))
	Equal(t, "multimap", len(Must(m.Get(ctx, &multimapv1.GetRequest{ID: id, Key: "a"}))(t).Values), 1)
	Must(0, m.Close(ctx))(t)
}

func aValue(t testing.TB, mine *client.ProtocolClient) {
	ctx, id := Calling(t), id("kinds-v")
	v := valueclient.NewValue(mine.Protocol, id)
	Must(0, v.Open(ctx))(t)
	refused(t, errors.IsNotFound)(v.Get(ctx, &valuev1.GetRequest{ID: id}))
	events := Streaming(t, func(s *Sink[*valuev1.EventsResponse]) error {
		return v.Events(&valuev1.EventsRequest{ID: id}, s)
	})
	Equal(t, "opening event", events.Next().Event.Event == nil, true)
	Must(v.Set(ctx, &valuev1.SetRequest{ID: id, Value: []byte("1")}))(t)
	Equal(t, "event", string(events.Next().Event.GetCreated().Value.Value), "1")
	Equal(t, "value", string(Must(v.Get(ctx, &valuev1.GetRequest{ID: id}))(t).Value.Value), "1")
	Must(0, v.Close(ctx))(t)
}
