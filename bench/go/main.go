// franz-go for bench/clients.py: produces to a topic, or consumes what is there, and prints one line of JSON.
//
//	franz-go produce|consume BOOTSTRAP TOPIC PARTITIONS PID WARM_BYTES BYTES SIZE_BYTES
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "franz-go:", err)
		os.Exit(1)
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	check(err)
	return value
}

// cpu is the CPU time of a process (Linux: the clock of another process).
func cpu(pid int) float64 {
	var now syscall.Timespec
	_, _, failed := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(^pid<<3|2), uintptr(unsafe.Pointer(&now)), 0)
	if failed != 0 {
		check(failed)
	}
	return float64(now.Sec) + float64(now.Nsec)/1e9
}

type window struct {
	pid          int
	started      time.Time
	broker, self float64
}

func open(pid int) window {
	return window{pid, time.Now(), cpu(pid), cpu(os.Getpid())}
}

func (w window) report(records, size int) {
	line, err := json.Marshal(map[string]any{
		"seconds":      time.Since(w.started).Seconds(),
		"requests":     records,
		"bytes":        records * size,
		"broker_cpu_s": cpu(w.pid) - w.broker,
		"own_cpu_s":    cpu(os.Getpid()) - w.self,
	})
	check(err)
	fmt.Println(string(line))
}

func produce(client *kgo.Client, topic string, value []byte, count int) {
	ctx := context.Background()
	for range count {
		client.Produce(ctx, &kgo.Record{Topic: topic, Value: value}, func(_ *kgo.Record, err error) { check(err) })
	}
	check(client.Flush(ctx))
}

func consume(bootstrap, topic string, partitions, count int) {
	from := map[int32]kgo.Offset{}
	for partition := range partitions {
		from[int32(partition)] = kgo.NewOffset().AtStart()
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	check(err)
	defer client.Close()
	for got := 0; got < count; {
		fetches := client.PollFetches(context.Background())
		check(fetches.Err())
		got += fetches.NumRecords()
	}
}

func main() {
	mode, bootstrap, topic := os.Args[1], os.Args[2], os.Args[3]
	partitions, pid := number(os.Args[4]), number(os.Args[5])
	warm, total, size := number(os.Args[6]), number(os.Args[7]), number(os.Args[8])
	if mode == "consume" {
		consume(bootstrap, topic, partitions, warm/size)
		measured := open(pid)
		consume(bootstrap, topic, partitions, total/size)
		measured.report(total/size, size)
		return
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ProducerBatchCompression(kgo.NoCompression()))
	check(err)
	defer client.Close()
	value := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	produce(client, topic, value, warm/size)
	measured := open(pid)
	produce(client, topic, value, total/size)
	measured.report(total/size, size)
}
