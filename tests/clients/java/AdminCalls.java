import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;

/** The job "admin": one call of the admin client. */
final class AdminCalls {
    private final Peer.Job job;
    private final Admin admin;

    private AdminCalls(Peer.Job job, Admin admin) {
        this.job = job;
        this.admin = admin;
    }

    static Object make(Peer.Job job) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", job.text("bootstrap"));
        settings.put("default.api.timeout.ms", "30000");
        try (Admin admin = Admin.create(settings)) {
            return new AdminCalls(job, admin).call(job.text("call"));
        }
    }

    private Object call(String name) throws Exception {
        switch (name) {
            case "create_topic": return createTopic();
            case "delete_topic": return admin.deleteTopics(List.of(job.text("topic"))).all().get();
            case "create_partitions":
                return admin.createPartitions(
                    Map.of(job.text("topic"), NewPartitions.increaseTo(job.get("count").asInt()))).all().get();
            case "list_topics":
                return new TreeSet<>(admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get());
            case "describe_topic": return describeTopic();
            case "describe_cluster": return describeCluster();
            case "describe_configs": return describeConfigs();
            case "alter_configs": return alterConfigs();
            case "list_groups": return listGroups();
            case "describe_group": return describeGroup();
            case "delete_group": return admin.deleteConsumerGroups(List.of(job.text("group"))).all().get();
            case "group_offsets": return groupOffsets();
            case "alter_group_offsets": return alterGroupOffsets();
            case "delete_group_offsets": return deleteGroupOffsets();
            case "delete_records": return deleteRecords();
            case "list_offsets": return listOffsets();
            case "log_directories": return logDirectories();
            default: throw new IllegalArgumentException(name);
        }
    }

    private Object createTopic() throws Exception {
        String name = job.text("topic");
        Map<String, String> configs = new HashMap<>();
        if (job.has("configs")) {
            job.get("configs").fields().forEachRemaining(one -> configs.put(one.getKey(), one.getValue().asText()));
        }
        Optional<Integer> partitions = job.has("partitions") ? Optional.of(job.get("partitions").asInt()) : Optional.empty();
        Optional<Short> factor = job.has("replication_factor")
            ? Optional.of((short) job.get("replication_factor").asInt()) : Optional.empty();
        CreateTopicsResult result = admin.createTopics(
            List.of(new NewTopic(name, partitions, factor).configs(configs)),
            new CreateTopicsOptions().validateOnly(job.has("validate_only") && job.get("validate_only").asBoolean()));
        result.all().get();
        Map<String, String> shown = new TreeMap<>();
        for (ConfigEntry entry : result.config(name).get().entries()) {
            shown.put(entry.name(), entry.value());
        }
        Map<String, Object> created = new LinkedHashMap<>();
        created.put("partitions", result.numPartitions(name).get());
        created.put("replication_factor", result.replicationFactor(name).get());
        created.put("topic_id", result.topicId(name).get().toString());
        created.put("configs", shown);
        return created;
    }

    private TopicDescription described() throws Exception {
        String topic = job.text("topic");
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private static List<Integer> ids(List<Node> nodes) {
        List<Integer> all = new ArrayList<>();
        nodes.forEach(node -> all.add(node.id()));
        return all;
    }

    private Object describeTopic() throws Exception {
        TopicDescription described = described();
        List<Object> partitions = new ArrayList<>();
        for (TopicPartitionInfo partition : described.partitions()) {
            partitions.add(Map.of(
                "partition", partition.partition(), "leader", partition.leader().id(),
                "replicas", ids(partition.replicas()), "isr", ids(partition.isr())));
        }
        return Map.of(
            "internal", described.isInternal(), "topic_id", described.topicId().toString(), "partitions", partitions);
    }

    private Object describeCluster() throws Exception {
        DescribeClusterResult result = admin.describeCluster();
        List<Object> brokers = new ArrayList<>();
        for (Node node : result.nodes().get()) {
            brokers.add(List.of(node.id(), node.host(), node.port()));
        }
        return Map.of(
            "cluster_id", result.clusterId().get(), "controller", result.controller().get().id(), "brokers", brokers);
    }

    private ConfigResource resource() {
        ConfigResource.Type type = ConfigResource.Type.valueOf(job.text("type").toUpperCase());
        return new ConfigResource(type, job.text("name"));
    }

    private Object describeConfigs() throws Exception {
        Map<String, Object> shown = new TreeMap<>();
        for (ConfigEntry entry : admin.describeConfigs(List.of(resource())).all().get().get(resource()).entries()) {
            Map<String, Object> fields = new HashMap<>();
            fields.put("value", entry.value());
            fields.put("source", sourceNumber(entry.source()));
            fields.put("read_only", entry.isReadOnly());
            fields.put("sensitive", entry.isSensitive());
            fields.put("type", entry.type().name());
            shown.put(entry.name(), fields);
        }
        return shown;
    }

    /** The number that the protocol has for it. */
    private static int sourceNumber(ConfigEntry.ConfigSource source) {
        switch (source) {
            case DYNAMIC_TOPIC_CONFIG: return 1;
            case DYNAMIC_BROKER_CONFIG: return 2;
            case DYNAMIC_DEFAULT_BROKER_CONFIG: return 3;
            case STATIC_BROKER_CONFIG: return 4;
            case DEFAULT_CONFIG: return 5;
            case DYNAMIC_BROKER_LOGGER_CONFIG: return 6;
            default: return 0;
        }
    }

    private Object alterConfigs() throws Exception {
        Collection<AlterConfigOp> changes = new ArrayList<>();
        if (job.has("set")) {
            job.get("set").fields().forEachRemaining(one -> changes.add(new AlterConfigOp(
                new ConfigEntry(one.getKey(), one.getValue().asText()), AlterConfigOp.OpType.SET)));
        }
        if (job.has("delete")) {
            job.get("delete").forEach(name -> changes.add(new AlterConfigOp(
                new ConfigEntry(name.asText(), null), AlterConfigOp.OpType.DELETE)));
        }
        return admin.incrementalAlterConfigs(Map.of(resource(), changes)).all().get();
    }

    private Object listGroups() throws Exception {
        List<Object> shown = new ArrayList<>();
        admin.listConsumerGroups().all().get().forEach(group -> {
            Map<String, Object> fields = new HashMap<>();
            fields.put("group", group.groupId());
            fields.put("state", group.state().map(Object::toString).orElse(null));
            shown.add(fields);
        });
        return shown;
    }

    private Object describeGroup() throws Exception {
        String group = job.text("group");
        ConsumerGroupDescription described =
            admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
        List<Object> members = new ArrayList<>();
        for (MemberDescription member : described.members()) {
            List<List<Object>> assigned = new ArrayList<>();
            member.assignment().topicPartitions().stream()
                .sorted((one, other) -> Integer.compare(one.partition(), other.partition()))
                .forEach(place -> assigned.add(List.of(place.topic(), place.partition())));
            Map<String, Object> fields = new HashMap<>();
            fields.put("client_id", member.clientId());
            fields.put("host", member.host());
            fields.put("instance", member.groupInstanceId().orElse(null));
            fields.put("assigned", assigned);
            members.add(fields);
        }
        return Map.of(
            "state", described.state().toString(), "protocol", described.partitionAssignor(),
            "coordinator", described.coordinator().id(), "members", members);
    }

    private Object groupOffsets() throws Exception {
        List<List<Object>> shown = new ArrayList<>();
        admin.listConsumerGroupOffsets(job.text("group")).partitionsToOffsetAndMetadata().get().entrySet().stream()
            .sorted((one, other) -> Integer.compare(one.getKey().partition(), other.getKey().partition()))
            .forEach(one -> shown.add(List.of(one.getKey().topic(), one.getKey().partition(), one.getValue().offset())));
        return shown;
    }

    private Object alterGroupOffsets() throws Exception {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (JsonNode one : job.get("offsets")) {
            offsets.put(
                new TopicPartition(one.get(0).asText(), one.get(1).asInt()), new OffsetAndMetadata(one.get(2).asLong()));
        }
        return admin.alterConsumerGroupOffsets(job.text("group"), offsets).all().get();
    }

    private Object deleteGroupOffsets() throws Exception {
        TreeSet<Integer> numbers = new TreeSet<>();
        job.get("partitions").forEach(number -> numbers.add(number.asInt()));
        java.util.Set<TopicPartition> places = new java.util.HashSet<>();
        numbers.forEach(number -> places.add(new TopicPartition(job.text("topic"), number)));
        return admin.deleteConsumerGroupOffsets(job.text("group"), places).all().get();
    }

    private Object deleteRecords() throws Exception {
        TopicPartition place = new TopicPartition(job.text("topic"), job.get("partition").asInt());
        return admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(job.get("before").asLong())))
            .lowWatermarks().get(place).get().lowWatermark();
    }

    private Object listOffsets() throws Exception {
        JsonNode at = job.get("at");
        OffsetSpec spec;
        if (at.isNumber()) {
            spec = OffsetSpec.forTimestamp(at.asLong());
        } else if (at.asText().equals("earliest")) {
            spec = OffsetSpec.earliest();
        } else if (at.asText().equals("latest")) {
            spec = OffsetSpec.latest();
        } else {
            spec = OffsetSpec.maxTimestamp();
        }
        Map<TopicPartition, OffsetSpec> wanted = new HashMap<>();
        for (TopicPartitionInfo partition : described().partitions()) {
            wanted.put(new TopicPartition(job.text("topic"), partition.partition()), spec);
        }
        TreeMap<Integer, Long> found = new TreeMap<>();
        admin.listOffsets(wanted).all().get().forEach((place, offset) -> found.put(place.partition(), offset.offset()));
        List<List<Object>> shown = new ArrayList<>();
        found.forEach((partition, offset) -> shown.add(List.of(partition, offset)));
        return shown;
    }

    private Object logDirectories() throws InterruptedException, ExecutionException {
        List<Integer> brokers = ids(new ArrayList<>(admin.describeCluster().nodes().get()));
        List<Object> shown = new ArrayList<>();
        admin.describeLogDirs(brokers).allDescriptions().get().values().forEach(directories ->
            directories.forEach((path, directory) -> {
                List<List<Object>> partitions = new ArrayList<>();
                directory.replicaInfos().forEach((place, replica) -> {
                    if (place.topic().equals(job.text("topic"))) {
                        partitions.add(List.of(place.partition(), replica.size()));
                    }
                });
                partitions.sort((one, other) -> Integer.compare((Integer) one.get(0), (Integer) other.get(0)));
                shown.add(Map.of("path", path, "partitions", partitions));
            }));
        return shown;
    }
}
