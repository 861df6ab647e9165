// /// script
// dependencies = ["github.com/hibiken/asynq@v0.26.0"]
// [tool.bench]
// docs = [
//   "https://github.com/hibiken/asynq/wiki/Getting-Started: Concurrency 10 in its example",
//   "https://github.com/hibiken/asynq/blob/master/README.md: retention 0 is the default: an ended task is deleted",
// ]
// note = "Compiled Go. It has no bulk call: a hundred callers instead."
// queued = "LLEN asynq:{default}:pending"
// wide = { by = "concurrency" }
// [[tool.bench.settings]]
// concurrency = 10
// [[tool.bench.settings]]
// concurrency = 100
// [[tool.bench.settings]]
// concurrency = 500
// ///

// asynq: Redis lists and Lua, bodies in goroutines, one worker process.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/hibiken/asynq"
)

const (
	callers = 100
	tick    = 0.01
)

type settings struct {
	Host        string `json:"host"`
	Port        int    `json:"port"`
	Concurrency int    `json:"concurrency"`
}

type order struct {
	Way     string    `json:"way"`
	Jobs    *int      `json:"jobs"`
	Seconds *float64  `json:"seconds"`
	Rate    float64   `json:"rate"`
	Body    string    `json:"body"`
	Args    []float64 `json:"args"`
}

// now is CLOCK_MONOTONIC in seconds, as Python's time.monotonic.
func now() float64 {
	var t syscall.Timespec
	_, _, failed := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&t)), 0)
	if failed != 0 {
		log.Fatal(failed)
	}
	return float64(t.Sec) + float64(t.Nsec)/1e9
}

func must(failed error) {
	if failed != nil {
		log.Fatal(failed)
	}
}

func evidence(name string) string { return filepath.Join(os.Getenv("BENCH_EVIDENCE"), name) }

// tally is three float64 in a file that is mapped into memory: first body, bodies, last body.
type tally struct {
	mutex sync.Mutex
	cells *[3]float64
}

func newTally() *tally {
	name := fmt.Sprintf("tally-%s-%d-0", os.Getenv("BENCH_WORKER"), os.Getpid())
	file, failed := os.OpenFile(evidence(name), os.O_RDWR|os.O_CREATE, 0o600)
	must(failed)
	must(file.Truncate(24))
	data, failed := syscall.Mmap(int(file.Fd()), 0, 24, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(failed)
	return &tally{cells: (*[3]float64)(unsafe.Pointer(&data[0]))}
}

func (t *tally) add() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.cells[2] = now()
	if t.cells[1] == 0 {
		t.cells[0] = t.cells[2]
	}
	t.cells[1]++
}

func mark(text string) {
	file, failed := os.OpenFile(evidence("marks"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	must(failed)
	defer file.Close()
	_, failed = fmt.Fprintf(file, "%.6f %d %s\n", now(), os.Getpid(), text)
	must(failed)
}

func arguments(task *asynq.Task) ([]float64, error) {
	var found []float64
	failed := json.Unmarshal(task.Payload(), &found)
	return found, failed
}

func work(to asynq.RedisClientOpt, concurrency int) {
	evidence := newTally()
	bodies := asynq.NewServeMux()
	bodies.HandleFunc("noop", func(context.Context, *asynq.Task) error {
		evidence.add()
		return nil
	})
	bodies.HandleFunc("probe", func(_ context.Context, task *asynq.Task) error {
		given, failed := arguments(task)
		if failed == nil {
			mark(fmt.Sprintf("probe %.6f", now()-given[0]))
		}
		return failed
	})
	bodies.HandleFunc("hold", func(_ context.Context, task *asynq.Task) error {
		given, failed := arguments(task)
		if failed == nil {
			mark(fmt.Sprintf("hold %.0f", given[0]))
			time.Sleep(time.Duration(given[1] * float64(time.Second)))
		}
		return failed
	})
	bodies.HandleFunc("wait", func(_ context.Context, task *asynq.Task) error {
		given, failed := arguments(task)
		if failed == nil {
			time.Sleep(time.Duration(given[0] * float64(time.Second)))
			evidence.add()
		}
		return failed
	})
	must(asynq.NewServer(to, asynq.Config{Concurrency: concurrency, LogLevel: asynq.WarnLevel}).Run(bodies))
}

// stop is after so many jobs or so many seconds.
type stop struct {
	left  atomic.Int64
	until float64
}

func newStop(jobs *int, seconds *float64) *stop {
	made := &stop{until: 1e300}
	made.left.Store(1 << 60)
	if jobs != nil {
		made.left.Store(int64(*jobs))
	}
	if seconds != nil {
		made.until = now() + *seconds
	}
	return made
}

func (s *stop) take() bool { return now() < s.until && s.left.Add(-1) >= 0 }

func one(client *asynq.Client, body string, args []float64) {
	payload, failed := json.Marshal(args)
	must(failed)
	_, failed = client.Enqueue(asynq.NewTask(body, payload))
	must(failed)
}

func store(client *asynq.Client, way string, until *stop, body string, args []float64) int64 {
	var stored atomic.Int64
	var all sync.WaitGroup
	count := callers
	if way == "one" {
		count = 1
	}
	for range count {
		all.Go(func() {
			for until.take() {
				one(client, body, args)
				stored.Add(1)
			}
		})
	}
	all.Wait()
	return stored.Load()
}

func feed(client *asynq.Client, rate, seconds float64) map[string]any {
	each := tick
	if rate == 0 {
		each = 0.025
	}
	began := now()
	var stored, probes int64
	for now()-began < seconds {
		if due := int(rate*(now()-began)) - int(stored); due > 0 {
			due = min(due, 5000)
			stored += store(client, "bulk", newStop(&due, nil), "noop", []float64{})
		}
		one(client, "probe", []float64{now()})
		probes++
		time.Sleep(time.Duration((began + float64(probes)*each - now()) * float64(time.Second)))
	}
	return map[string]any{"jobs": stored, "probes": probes, "seconds": now() - began}
}

func produce(client *asynq.Client, command string, given order) map[string]any {
	switch command {
	case "feed":
		return feed(client, given.Rate, *given.Seconds)
	case "number":
		for number := range *given.Jobs {
			one(client, given.Body, []float64{float64(number), *given.Seconds})
		}
		return map[string]any{"jobs": *given.Jobs}
	}
	body, args := given.Body, given.Args
	if body == "" {
		body = "noop"
	}
	if args == nil {
		args = []float64{}
	}
	began := now()
	stored := store(client, given.Way, newStop(given.Jobs, given.Seconds), body, args)
	return map[string]any{"jobs": stored, "seconds": now() - began}
}

func main() {
	var config settings
	must(json.Unmarshal([]byte(os.Getenv("BENCH_SETTINGS")), &config))
	to := asynq.RedisClientOpt{Addr: fmt.Sprintf("%s:%d", config.Host, config.Port)}
	if os.Args[1] == "work" {
		work(to, config.Concurrency)
		return
	}
	var given order
	must(json.Unmarshal([]byte(os.Args[2]), &given))
	client := asynq.NewClient(to)
	defer client.Close()
	said, failed := json.Marshal(produce(client, os.Args[1], given))
	must(failed)
	fmt.Println(string(said))
}
