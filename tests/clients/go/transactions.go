package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var errAborted = errors.New("aborted as asked for")

// process reads, writes and commits both in transactions; after an error it starts over, from what is committed.
func process(j *job) (any, error) {
	attempts := 0
	for j.stopping.Err() == nil {
		if err := processUntilError(j, &attempts); err != nil {
			j.emit(event{"trouble": err.Error()})
		}
	}
	return attempts, nil
}

func processUntilError(j *job, attempts *int) error {
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(strings.Split(j.Bootstrap, ",")...),
		kgo.ClientID("franz-go"),
		kgo.TransactionalID(j.TransactionalID),
		kgo.TransactionTimeout(20*time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
		kgo.ConsumerGroup(j.Group),
		kgo.InstanceID(*j.Instance),
		kgo.ConsumeTopics(j.Topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(2*time.Second),
		kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.FetchMaxWait(50*time.Millisecond),
		kgo.MetadataMinAge(50*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer session.Close()
	// Takes the id over, and aborts what was begun in its name: until then offsets are not stable.
	taking, cancel := context.WithTimeout(context.Background(), deadline)
	_, _, err = session.Client().ProducerID(taking)
	cancel()
	if err != nil {
		return err
	}
	for j.stopping.Err() == nil {
		polling, cancel := context.WithTimeout(j.stopping, 50*time.Millisecond)
		fetches := session.PollRecords(polling, 5)
		cancel()
		for _, failure := range fetches.Errors() {
			if !errors.Is(failure.Err, context.Canceled) && !errors.Is(failure.Err, context.DeadlineExceeded) {
				return failure.Err
			}
		}
		records := fetches.Records()
		if len(records) == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		copies := make([]*kgo.Record, len(records))
		for i, one := range records {
			copies[i] = &kgo.Record{Topic: j.Topic, Partition: one.Partition, Key: one.Key, Value: one.Value}
		}
		failed := session.ProduceSync(ctx, copies...).FirstErr()
		*attempts++
		isAborted := *attempts%j.AbortEvery == 0
		committed, err := session.End(ctx, kgo.TransactionEndTry(failed == nil && !isAborted))
		cancel()
		switch {
		case err != nil:
			return err
		case failed != nil:
			return failed
		case committed:
			j.emit(event{"committed": len(records)})
		case isAborted:
			j.emit(event{"trouble": errAborted.Error()})
		}
	}
	return nil
}
