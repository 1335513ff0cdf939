package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func (j *job) client(more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(j.Bootstrap, ",")...), kgo.ClientID("franz-go")}, more...)...)
}

func produce(j *job) (any, error) {
	options := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[j.Codec]),
		kgo.ProducerLinger(5 * time.Millisecond),
		kgo.ProducerBatchMaxBytes(1_048_588),
	}
	if !j.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := j.client(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	records := make([]*kgo.Record, len(j.Records))
	for i, fields := range j.Records {
		headers := make([]kgo.RecordHeader, len(fields.Headers))
		for n, header := range fields.Headers {
			headers[n] = kgo.RecordHeader{Key: *header[0], Value: decoded(header[1])}
		}
		records[i] = &kgo.Record{
			Topic:     j.Topic,
			Partition: fields.Partition,
			Key:       decoded(fields.Key),
			Value:     decoded(fields.Value),
			Headers:   headers,
			Timestamp: time.UnixMilli(fields.Timestamp),
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return nil, err
	}
	places := make([][2]int64, len(records))
	for i, one := range records {
		places[i] = [2]int64{int64(one.Partition), one.Offset}
	}
	return places, nil
}

func asRecord(one *kgo.Record) record {
	headers := make([][2]*string, len(one.Headers))
	for i, header := range one.Headers {
		name := header.Key
		headers[i] = [2]*string{&name, encoded(header.Value)}
	}
	return record{
		Topic:     one.Topic,
		Partition: one.Partition,
		Offset:    one.Offset,
		Timestamp: one.Timestamp.UnixMilli(),
		Key:       encoded(one.Key),
		Value:     encoded(one.Value),
		Headers:   headers,
	}
}

func read(j *job) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	looking, err := j.client()
	if err != nil {
		return nil, err
	}
	defer looking.Close()
	admin := kadm.NewClient(looking)
	ends, err := admin.ListEndOffsets(ctx, j.Topic)
	if err != nil {
		return nil, err
	}
	starts, err := admin.ListStartOffsets(ctx, j.Topic)
	if err != nil {
		return nil, err
	}
	var from struct{ Timestamp, Offset *int64 }
	if json.Unmarshal(j.From, &from) == nil && from.Timestamp != nil {
		if starts, err = admin.ListOffsetsAfterMilli(ctx, *from.Timestamp, j.Topic); err != nil {
			return nil, err
		}
	}
	pending := map[int32]int64{}
	consume := map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(j.Topic, end.Partition)
		if from.Offset != nil {
			start.Offset = *from.Offset
		}
		if start.Offset < end.Offset {
			pending[end.Partition] = end.Offset
			consume[end.Partition] = kgo.NewOffset().At(start.Offset)
		}
	})
	if len(pending) == 0 {
		return 0, nil
	}
	client, err := j.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{j.Topic: consume}),
		kgo.FetchMaxWait(50*time.Millisecond),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	count := 0
	for len(pending) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, err
		}
		if failures := fetches.Errors(); len(failures) > 0 {
			return nil, failures[0].Err
		}
		fetches.EachRecord(func(one *kgo.Record) {
			j.emit(event{"record": asRecord(one)})
			count++
			if one.Offset+1 >= pending[one.Partition] {
				delete(pending, one.Partition)
			}
		})
	}
	return count, nil
}

// holding is what a member has now.
type holding struct {
	sync.Mutex
	places map[string]map[int32]bool
}

func (h *holding) change(j *job, partitions map[string][]int32, now bool) {
	h.Lock()
	defer h.Unlock()
	for topic, numbers := range partitions {
		if h.places[topic] == nil {
			h.places[topic] = map[int32]bool{}
		}
		for _, number := range numbers {
			if now {
				h.places[topic][number] = true
			} else {
				delete(h.places[topic], number)
			}
		}
	}
	all := [][2]any{}
	for topic, numbers := range h.places {
		for number := range numbers {
			all = append(all, [2]any{topic, number})
		}
	}
	j.emit(event{"assigned": all})
}

var strategies = map[string]func() kgo.GroupBalancer{
	"range":              kgo.RangeBalancer,
	"roundrobin":         kgo.RoundRobinBalancer,
	"cooperative-sticky": kgo.CooperativeStickyBalancer,
}

func member(j *job) (any, error) {
	has := holding{places: map[string]map[int32]bool{}}
	lost := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		has.change(j, partitions, false)
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup(j.Group),
		kgo.ConsumeTopics(j.Topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.Balancers(strategies[j.Strategy]()),
		kgo.SessionTimeout(6 * time.Second),
		kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.RebalanceTimeout(20 * time.Second),
		kgo.FetchMaxWait(50 * time.Millisecond),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.MetadataMaxAge(time.Second),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			has.change(j, partitions, true)
		}),
		kgo.OnPartitionsRevoked(lost),
		kgo.OnPartitionsLost(lost),
	}
	if j.Instance != nil {
		options = append(options, kgo.InstanceID(*j.Instance))
	}
	client, err := j.client(options...)
	if err != nil {
		return nil, err
	}
	defer client.CloseAllowingRebalance()
	for j.stopping.Err() == nil {
		fetches := client.PollRecords(j.stopping, 500)
		for _, failure := range fetches.Errors() {
			if !errors.Is(failure.Err, context.Canceled) {
				j.emit(event{"trouble": fmt.Sprint(failure.Topic, failure.Partition, failure.Err)})
			}
		}
		records := fetches.Records()
		if len(records) > 0 {
			shown := make([]record, len(records))
			for i, one := range records {
				shown[i] = asRecord(one)
			}
			j.emit(event{"records": shown})
			if err := client.CommitRecords(context.Background(), records...); err != nil {
				j.emit(event{"trouble": "commit: " + err.Error()})
			} else {
				j.emit(event{"committed": committed(records)})
			}
		}
		client.AllowRebalance()
	}
	return nil, nil
}

func committed(records []*kgo.Record) [][3]any {
	next := map[string]map[int32]int64{}
	for _, one := range records {
		if next[one.Topic] == nil {
			next[one.Topic] = map[int32]int64{}
		}
		next[one.Topic][one.Partition] = one.Offset + 1
	}
	all := [][3]any{}
	for topic, partitions := range next {
		for partition, offset := range partitions {
			all = append(all, [3]any{topic, partition, offset})
		}
	}
	sort.Slice(all, func(i, k int) bool { return all[i][1].(int32) < all[k][1].(int32) })
	return all
}

func steady(j *job) (any, error) {
	client, err := j.client(
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.RecordRetries(1000),
		kgo.ProducerLinger(0),
		kgo.MetadataMinAge(100*time.Millisecond),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	number := 0
	var failure error
	var mutex sync.Mutex
	failed := func() error {
		mutex.Lock()
		defer mutex.Unlock()
		return failure
	}
	room := make(chan struct{}, 50)
	for j.stopping.Err() == nil && failed() == nil {
		key := fmt.Sprintf("%s-%d", j.Prefix, number)
		partition := int32(number) % j.partitionCount(1)
		room <- struct{}{}
		one := &kgo.Record{Topic: j.Topic, Partition: partition, Key: []byte(key), Value: []byte(key)}
		client.Produce(context.Background(), one, func(done *kgo.Record, err error) {
			if err != nil {
				mutex.Lock()
				failure = err
				mutex.Unlock()
			} else {
				j.emit(event{"acked": [3]any{string(done.Key), done.Partition, done.Offset}})
			}
			<-room
		})
		number++
		select {
		case <-j.stopping.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := client.Flush(context.Background()); err != nil {
		return nil, err
	}
	return number, failed()
}
