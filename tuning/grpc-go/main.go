// An ordinary grpc-go client as load: what a node costs when its callers are not ringraft's own generator.
//
//	go run . -endpoint 127.0.0.1:5678 -connections 8 -in-flight 32 -seconds 5 [-pid PID]
//
// Each connection has a session and a counter of its own and increments it with so many calls at a time. The
// counters have to come out as the calls that were answered, or it fails. With the pid of a server on this host
// it tells the server's CPU time a call. Messages are written field by field, as the proto files in proto/ have
// them; grpc-go does the rest.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

var (
	endpoint    = flag.String("endpoint", "127.0.0.1:5678", "HOST:PORT of a node")
	partition   = flag.Uint64("partition", 1, "the partition that has the counters")
	connections = flag.Int("connections", 8, "connections, each with a session of its own")
	inFlight    = flag.Int("in-flight", 32, "calls of a connection at a time")
	seconds     = flag.Int("seconds", 5, "how long it is measured")
	pid         = flag.Int("pid", 0, "the server's, to tell its CPU time a call")
)

// What a client keeps of its outputs is dropped this often.
const keepAliveEvery = 2 * time.Second

// A filter without numbers: every one up to the last is answered.
const nothingOpen = `{"m":1,"k":9223372036854775808,"b":"AAAAAAAAAAA="}`

// raw passes messages on as they are.
type raw struct{}

func (raw) Name() string                  { return "proto" }
func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func number(field protowire.Number, value uint64, into []byte) []byte {
	return protowire.AppendVarint(protowire.AppendTag(into, field, protowire.VarintType), value)
}

func message(field protowire.Number, body []byte, into []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(into, field, protowire.BytesType), body)
}

// find follows message fields down to a number; 0 where one is missing.
func find(bytes []byte, path ...protowire.Number) uint64 {
	for len(bytes) > 0 {
		field, kind, n := protowire.ConsumeTag(bytes)
		if n < 0 {
			return 0
		}
		bytes = bytes[n:]
		switch {
		case field == path[0] && len(path) == 1 && kind == protowire.VarintType:
			value, _ := protowire.ConsumeVarint(bytes)
			return value
		case field == path[0] && len(path) > 1 && kind == protowire.BytesType:
			body, _ := protowire.ConsumeBytes(bytes)
			return find(body, path[1:]...)
		}
		n = protowire.ConsumeFieldValue(field, kind, bytes)
		if n < 0 {
			return 0
		}
		bytes = bytes[n:]
	}
	return 0
}

type client struct {
	connection         *grpc.ClientConn
	session, primitive uint64

	mutex sync.Mutex
	next  uint64
	open  map[uint64]bool
	sum   uint64
}

func (c *client) call(method string, request []byte) ([]byte, error) {
	var response []byte
	err := c.connection.Invoke(context.Background(), method, &request, &response, grpc.ForceCodec(raw{}))
	return response, err
}

// headers of a command with this number.
func (c *client) headers(sequence uint64) []byte {
	of := number(2, c.session, message(1, number(1, *partition, nil), nil))
	of = number(2, c.primitive, message(1, of, nil))
	return number(2, sequence, message(1, message(1, of, nil), nil))
}

func (c *client) begin(name string) error {
	open := message(1, number(1, *partition, nil), nil)
	open = message(2, message(1, number(1, 60, nil), nil), open)
	response, err := c.call("/atomix.multiraft.v1.Partition/OpenSession", open)
	if err != nil {
		return err
	}
	c.session = find(response, 2, 1)
	spec := message(1, []byte("atomix.multiraft.counter.v1.Counter"), nil)
	spec = message(3, []byte(name), spec)
	create := message(2, message(1, spec, nil), message(1, c.headers(1), nil))
	response, err = c.call("/atomix.multiraft.v1.Session/CreatePrimitive", create)
	if err != nil {
		return err
	}
	c.primitive = find(response, 2, 1)
	if c.session == 0 || c.primitive == 0 {
		return fmt.Errorf("no session or no primitive came back")
	}
	c.next = 2
	return nil
}

func (c *client) increment() error {
	c.mutex.Lock()
	sequence := c.next
	c.next++
	c.open[sequence] = true
	c.mutex.Unlock()
	request := message(2, number(1, 1, nil), message(1, c.headers(sequence), nil))
	response, err := c.call("/atomix.multiraft.counter.v1.Counter/Increment", request)
	if err != nil {
		return err
	}
	value := find(response, 2, 1)
	c.mutex.Lock()
	delete(c.open, sequence)
	c.sum = max(c.sum, value)
	c.mutex.Unlock()
	return nil
}

func (c *client) keepAlive() error {
	c.mutex.Lock()
	last := c.next - 1
	for sequence := range c.open {
		last = min(last, sequence-1)
	}
	c.mutex.Unlock()
	input := message(2, []byte(nothingOpen), number(1, c.session, nil))
	beat := message(2, number(3, last, input), message(1, number(1, *partition, nil), nil))
	_, err := c.call("/atomix.multiraft.v1.Partition/KeepAlive", beat)
	return err
}

// cpu is what a process has used, in seconds of 100 ticks each.
func cpu(pid int) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		log.Fatal(err)
	}
	after := string(stat)[strings.LastIndex(string(stat), ")")+2:]
	fields := strings.Fields(after)
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

func main() {
	flag.Parse()
	var calls atomic.Uint64
	var ended atomic.Bool
	var group sync.WaitGroup
	clients := make([]*client, *connections)
	for place := range clients {
		connection, err := grpc.NewClient(*endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			log.Fatal(err)
		}
		c := &client{connection: connection, open: map[uint64]bool{}}
		if err := c.begin(fmt.Sprintf("grpc-go-%d-%d", os.Getpid(), place)); err != nil {
			log.Fatal(err)
		}
		clients[place] = c
	}
	// repeats a step beside all others until the end
	repeat := func(step func() error, done func()) {
		group.Add(1)
		go func() {
			defer group.Done()
			for !ended.Load() {
				if err := step(); err != nil {
					log.Fatal(err)
				}
				done()
			}
		}()
	}
	for _, c := range clients {
		for range *inFlight {
			repeat(c.increment, func() { calls.Add(1) })
		}
		repeat(c.keepAlive, func() { time.Sleep(keepAliveEvery) })
	}
	time.Sleep(time.Second)
	before, used, began := calls.Load(), 0.0, time.Now()
	if *pid != 0 {
		used = cpu(*pid)
	}
	time.Sleep(time.Duration(*seconds) * time.Second)
	done, took := calls.Load()-before, time.Since(began).Seconds()
	fmt.Printf("%.0f calls a second, %d at a time on %d connections", float64(done)/took, *inFlight**connections, *connections)
	if *pid != 0 {
		fmt.Printf("; %.2f us of the server's CPU a call", (cpu(*pid)-used)*1e6/float64(done))
	}
	fmt.Println()
	ended.Store(true)
	group.Wait()
	var sum uint64
	for _, c := range clients {
		sum += c.sum
	}
	if sum != calls.Load() {
		log.Fatalf("%d calls were answered, the counters say %d", calls.Load(), sum)
	}
}
