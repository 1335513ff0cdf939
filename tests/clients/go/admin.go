package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"

	"github.com/twmb/franz-go/pkg/kadm"
)

type call func(context.Context, *kadm.Client, *job) (any, error)

var calls = map[string]call{
	"create_topic":         createTopic,
	"delete_topic":         deleteTopic,
	"create_partitions":    createPartitions,
	"list_topics":          listTopics,
	"describe_topic":       describeTopic,
	"describe_cluster":     describeCluster,
	"describe_configs":     describeConfigs,
	"alter_configs":        alterConfigs,
	"replace_configs":      replaceConfigs,
	"list_groups":          listGroups,
	"describe_group":       describeGroup,
	"delete_group":         deleteGroup,
	"group_offsets":        groupOffsets,
	"alter_group_offsets":  alterGroupOffsets,
	"delete_group_offsets": deleteGroupOffsets,
	"delete_records":       deleteRecords,
	"list_offsets":         listOffsets,
	"log_directories":      logDirectories,
}

func admin(j *job) (any, error) {
	client, err := j.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	make, known := calls[j.Call]
	if !known {
		return nil, fmt.Errorf("unknown call %q", j.Call)
	}
	return make(ctx, kadm.NewClient(client), j)
}

func createTopic(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	configs := map[string]*string{}
	for name, value := range j.Configs {
		configs[name] = kadm.StringPtr(value)
	}
	factor := int16(-1)
	if j.ReplicationFactor != nil {
		factor = *j.ReplicationFactor
	}
	create := admin.CreateTopics
	if j.ValidateOnly {
		create = admin.ValidateCreateTopics
	}
	answers, err := create(ctx, j.partitionCount(-1), factor, configs, j.Topic)
	if err != nil {
		return nil, err
	}
	answer := answers[j.Topic]
	if answer.Err != nil {
		return nil, answer.Err
	}
	shown := map[string]string{}
	for name, config := range answer.Configs {
		shown[name] = config.MaybeValue()
	}
	return event{
		"partitions":         answer.NumPartitions,
		"replication_factor": answer.ReplicationFactor,
		"configs":            shown,
	}, nil
}

func deleteTopic(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	answer, err := admin.DeleteTopic(ctx, j.Topic)
	if err == nil {
		err = answer.Err
	}
	return nil, err
}

func createPartitions(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	answers, err := admin.UpdatePartitions(ctx, j.Count, j.Topic)
	if err == nil {
		err = answers.Error()
	}
	return nil, err
}

func listTopics(ctx context.Context, admin *kadm.Client, _ *job) (any, error) {
	topics, err := admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return nil, err
	}
	return topics.Names(), nil
}

func describeTopic(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	topics, err := admin.ListTopicsWithInternal(ctx, j.Topic)
	if err != nil {
		return nil, err
	}
	topic := topics[j.Topic]
	if topic.Err != nil {
		return nil, topic.Err
	}
	partitions := []event{}
	for _, partition := range topic.Partitions.Sorted() {
		partitions = append(partitions, event{
			"partition": partition.Partition,
			"leader":    partition.Leader,
			"replicas":  partition.Replicas,
			"isr":       partition.ISR,
		})
	}
	return event{"internal": topic.IsInternal, "topic_id": topic.ID.String(), "partitions": partitions}, nil
}

func describeCluster(ctx context.Context, admin *kadm.Client, _ *job) (any, error) {
	found, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return nil, err
	}
	brokers := [][3]any{}
	for _, broker := range found.Brokers {
		brokers = append(brokers, [3]any{broker.NodeID, broker.Host, broker.Port})
	}
	return event{"cluster_id": found.Cluster, "controller": found.Controller, "brokers": brokers}, nil
}

func describeConfigs(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	var described kadm.ResourceConfigs
	var err error
	if j.Type == "broker" {
		var id int32
		if err := json.Unmarshal([]byte(j.Name), &id); err != nil {
			return nil, err
		}
		described, err = admin.DescribeBrokerConfigs(ctx, id)
	} else {
		described, err = admin.DescribeTopicConfigs(ctx, j.Name)
	}
	if err != nil {
		return nil, err
	}
	if described[0].Err != nil {
		return nil, described[0].Err
	}
	shown := map[string]event{}
	for _, config := range described[0].Configs {
		shown[config.Key] = event{"value": config.Value, "source": int8(config.Source), "sensitive": config.Sensitive}
	}
	return shown, nil
}

func (j *job) changes() []kadm.AlterConfig {
	changes := []kadm.AlterConfig{}
	for name, value := range j.Set {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: kadm.StringPtr(value)})
	}
	for _, name := range j.Delete {
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
	}
	return changes
}

func altered(answers kadm.AlterConfigsResponses, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return nil, answers[0].Err
}

func alterConfigs(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	if j.Type == "broker" {
		var id int32
		if err := json.Unmarshal([]byte(j.Name), &id); err != nil {
			return nil, err
		}
		return altered(admin.AlterBrokerConfigs(ctx, j.changes(), id))
	}
	return altered(admin.AlterTopicConfigs(ctx, j.changes(), j.Name))
}

func replaceConfigs(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	return altered(admin.AlterTopicConfigsState(ctx, j.changes(), j.Name))
}

func listGroups(ctx context.Context, admin *kadm.Client, _ *job) (any, error) {
	groups, err := admin.ListGroups(ctx)
	if err != nil {
		return nil, err
	}
	shown := []event{}
	for _, group := range groups.Sorted() {
		shown = append(shown, event{"group": group.Group, "state": group.State})
	}
	return shown, nil
}

func describeGroup(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	groups, err := admin.DescribeGroups(ctx, j.Group)
	if err != nil {
		return nil, err
	}
	group := groups[j.Group]
	if group.Err != nil {
		return nil, group.Err
	}
	members := []event{}
	for _, one := range group.Members {
		places := [][2]any{}
		if assignment, ok := one.Assigned.AsConsumer(); ok {
			for _, topic := range assignment.Topics {
				for _, partition := range topic.Partitions {
					places = append(places, [2]any{topic.Topic, partition})
				}
			}
		}
		members = append(members, event{
			"client_id": one.ClientID,
			"host":      one.ClientHost,
			"instance":  one.InstanceID,
			"assigned":  places,
		})
	}
	return event{
		"state":       group.State,
		"protocol":    group.Protocol,
		"coordinator": group.Coordinator.NodeID,
		"members":     members,
	}, nil
}

func deleteGroup(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	answer, err := admin.DeleteGroup(ctx, j.Group)
	if err == nil {
		err = answer.Err
	}
	return nil, err
}

func groupOffsets(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	offsets, err := admin.FetchOffsets(ctx, j.Group)
	if err != nil {
		return nil, err
	}
	shown := [][3]any{}
	for _, one := range offsets.Sorted() {
		shown = append(shown, [3]any{one.Topic, one.Partition, one.At})
	}
	return shown, offsets.Error()
}

func alterGroupOffsets(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	offsets := kadm.Offsets{}
	for _, one := range j.Offsets {
		offsets.AddOffset(one[0].(string), int32(one[1].(float64)), int64(one[2].(float64)), -1)
	}
	return nil, admin.CommitAllOffsets(ctx, j.Group, offsets)
}

func deleteGroupOffsets(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	var partitions []int32
	if err := json.Unmarshal(j.Partitions, &partitions); err != nil {
		return nil, err
	}
	places := kadm.TopicsSet{}
	places.Add(j.Topic, partitions...)
	answers, err := admin.DeleteOffsets(ctx, j.Group, places)
	if err == nil {
		err = answers.Error()
	}
	return nil, err
}

func deleteRecords(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	offsets := kadm.Offsets{}
	offsets.AddOffset(j.Topic, j.Partition, j.Before, -1)
	answers, err := admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return nil, err
	}
	answer, _ := answers.Lookup(j.Topic, j.Partition)
	return answer.LowWatermark, answer.Err
}

func listOffsets(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	var listed kadm.ListedOffsets
	var err error
	switch at := string(j.At); at {
	case `"earliest"`:
		listed, err = admin.ListStartOffsets(ctx, j.Topic)
	case `"latest"`:
		listed, err = admin.ListEndOffsets(ctx, j.Topic)
	case `"max-timestamp"`:
		listed, err = admin.ListMaxTimestampOffsets(ctx, j.Topic)
	default:
		var timestamp int64
		if err := json.Unmarshal(j.At, &timestamp); err != nil {
			return nil, err
		}
		listed, err = admin.ListOffsetsAfterMilli(ctx, timestamp, j.Topic)
	}
	if err != nil {
		return nil, err
	}
	shown := [][2]int64{}
	listed.Each(func(one kadm.ListedOffset) { shown = append(shown, [2]int64{int64(one.Partition), one.Offset}) })
	sort.Slice(shown, func(i, k int) bool { return shown[i][0] < shown[k][0] })
	return shown, listed.Error()
}

func logDirectories(ctx context.Context, admin *kadm.Client, j *job) (any, error) {
	var wanted kadm.TopicsSet
	if details, err := admin.ListTopics(ctx, j.Topic); err == nil {
		wanted = details.TopicsSet()
	}
	described, err := admin.DescribeAllLogDirs(ctx, wanted)
	if err != nil {
		return nil, err
	}
	shown := []event{}
	described.Each(func(directory kadm.DescribedLogDir) {
		partitions := [][2]int64{}
		directory.Topics.Each(func(one kadm.DescribedLogDirPartition) {
			partitions = append(partitions, [2]int64{int64(one.Partition), one.Size})
		})
		sort.Slice(partitions, func(i, k int) bool { return partitions[i][0] < partitions[k][0] })
		shown = append(shown, event{"path": directory.Dir, "partitions": partitions})
	})
	return shown, nil
}
