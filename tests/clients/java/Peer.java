import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** Kafka's own Java client for tests/clients: the jobs of tests/clients/peer.py. */
public final class Peer {
    static final ObjectMapper JSON = new ObjectMapper();
    static final Duration DEADLINE = Duration.ofSeconds(30);
    private static final Map<String, String> STRATEGIES = Map.of(
        "range", "org.apache.kafka.clients.consumer.RangeAssignor",
        "roundrobin", "org.apache.kafka.clients.consumer.RoundRobinAssignor",
        "cooperative-sticky", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");

    private static PrintStream output;

    /** A job and whether it was told to stop. */
    static final class Job {
        final JsonNode fields;
        final int number;
        final CountDownLatch stopped = new CountDownLatch(1);

        Job(JsonNode fields) {
            this.fields = fields;
            this.number = fields.get("job").asInt();
        }

        JsonNode get(String name) {
            return fields.get(name);
        }

        boolean has(String name) {
            return fields.hasNonNull(name);
        }

        String text(String name) {
            return fields.get(name).asText();
        }

        boolean stopping() {
            return stopped.getCount() == 0;
        }

        void emit(String kind, Object what) {
            ObjectNode event = JSON.createObjectNode();
            event.put("job", number);
            event.set(kind, JSON.valueToTree(what));
            write(event);
        }
    }

    static void write(ObjectNode event) {
        synchronized (Peer.class) {
            output.println(event);
            output.flush();
        }
    }

    static String encoded(byte[] data) {
        return data == null ? null : Base64.getEncoder().encodeToString(data);
    }

    static byte[] decoded(JsonNode text) {
        return text == null || text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    private static List<List<Object>> places(Collection<TopicPartition> partitions) {
        List<List<Object>> all = new ArrayList<>();
        for (TopicPartition partition : partitions) {
            all.add(List.of(partition.topic(), partition.partition()));
        }
        return all;
    }

    private static Object produce(Job job) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", job.text("bootstrap"));
        settings.put("compression.type", job.text("codec"));
        settings.put("enable.idempotence", job.text("idempotent"));
        settings.put("acks", "all");
        settings.put("linger.ms", "5");
        settings.put("max.request.size", "2000000");
        try (KafkaProducer<byte[], byte[]> producer =
                 new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (JsonNode fields : job.get("records")) {
                ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(
                    job.text("topic"), fields.get("partition").asInt(), fields.get("timestamp").asLong(),
                    decoded(fields.get("key")), decoded(fields.get("value")));
                for (JsonNode header : fields.get("headers")) {
                    record.headers().add(header.get(0).asText(), decoded(header.get(1)));
                }
                futures.add(producer.send(record));
            }
            List<List<Object>> all = new ArrayList<>();
            for (Future<RecordMetadata> future : futures) {
                RecordMetadata metadata = future.get(DEADLINE.toSeconds(), TimeUnit.SECONDS);
                all.add(List.of(metadata.partition(), metadata.offset()));
            }
            return all;
        }
    }

    private static ObjectNode asRecord(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode shown = JSON.createObjectNode();
        shown.put("topic", record.topic());
        shown.put("partition", record.partition());
        shown.put("offset", record.offset());
        shown.put("timestamp", record.timestamp());
        shown.put("key", encoded(record.key()));
        shown.put("value", encoded(record.value()));
        ArrayNode headers = shown.putArray("headers");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(encoded(header.value()));
        }
        return shown;
    }

    private static Properties consumerSettings(Job job) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", job.text("bootstrap"));
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("fetch.max.wait.ms", "50");
        return settings;
    }

    private static Object read(Job job) {
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(
                 consumerSettings(job), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(job.text("topic"), DEADLINE)
                .forEach(info -> partitions.add(new TopicPartition(info.topic(), info.partition())));
            consumer.assign(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions, DEADLINE);
            JsonNode from = job.get("from");
            if (from.has("timestamp")) {
                Map<TopicPartition, Long> wanted = new HashMap<>();
                partitions.forEach(partition -> wanted.put(partition, from.get("timestamp").asLong()));
                Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(wanted, DEADLINE);
                for (TopicPartition partition : partitions) {
                    OffsetAndTimestamp place = found.get(partition);
                    consumer.seek(partition, place == null ? ends.get(partition) : place.offset());
                }
            } else if (from.has("offset")) {
                partitions.forEach(one -> consumer.seek(one, Math.min(from.get("offset").asLong(), ends.get(one))));
            } else {
                consumer.seekToBeginning(partitions);
            }
            int count = 0;
            long deadline = System.nanoTime() + DEADLINE.toNanos();
            while (partitions.stream().anyMatch(one -> consumer.position(one, DEADLINE) < ends.get(one))) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("the ends were not reached");
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    job.emit("record", asRecord(record));
                    count++;
                }
            }
            return count;
        }
    }

    private static Object member(Job job) {
        Properties settings = consumerSettings(job);
        settings.put("group.id", job.text("group"));
        if (job.text("strategy").equals("consumer")) {
            settings.put("group.protocol", "consumer");
        } else {
            settings.put("partition.assignment.strategy", STRATEGIES.get(job.text("strategy")));
            settings.put("session.timeout.ms", "6000");
            settings.put("heartbeat.interval.ms", "300");
        }
        settings.put("metadata.max.age.ms", "1000");
        if (job.has("instance")) {
            settings.put("group.instance.id", job.text("instance"));
        }
        List<String> topics = new ArrayList<>();
        job.get("topics").forEach(topic -> topics.add(topic.asText()));
        try (KafkaConsumer<byte[], byte[]> consumer =
                 new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            Set<TopicPartition> assigned = ConcurrentHashMap.newKeySet();
            consumer.subscribe(topics, new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    assigned.addAll(partitions);
                    job.emit("assigned", places(assigned));
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    partitions.forEach(assigned::remove);
                    job.emit("assigned", places(assigned));
                }
            });
            while (!job.stopping()) {
                ConsumerRecords<byte[], byte[]> polled = consumer.poll(Duration.ofMillis(50));
                if (polled.isEmpty()) {
                    continue;
                }
                List<ObjectNode> shown = new ArrayList<>();
                polled.forEach(record -> shown.add(asRecord(record)));
                job.emit("records", shown);
                try {
                    consumer.commitSync();
                    List<List<Object>> committed = new ArrayList<>();
                    for (TopicPartition partition : polled.partitions()) {
                        List<ConsumerRecord<byte[], byte[]>> records = polled.records(partition);
                        long next = records.get(records.size() - 1).offset() + 1;
                        committed.add(List.of(partition.topic(), partition.partition(), next));
                    }
                    job.emit("committed", committed);
                } catch (RuntimeException error) {
                    job.emit("trouble", "commit: " + error);
                }
            }
        }
        return null;
    }

    private static Object steady(Job job) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", job.text("bootstrap"));
        settings.put("linger.ms", "0");
        settings.put("delivery.timeout.ms", "120000");
        settings.put("request.timeout.ms", "5000");
        settings.put("reconnect.backoff.ms", "20");
        settings.put("reconnect.backoff.max.ms", "200");
        settings.put("retry.backoff.ms", "20");
        if (job.has("settings")) {
            job.get("settings").fields().forEachRemaining(one -> settings.put(one.getKey(), one.getValue().asText()));
        }
        int pause = job.has("pause_ms") ? job.get("pause_ms").asInt() : 5;
        int most = job.has("pending") ? job.get("pending").asInt() : 50;
        int number = 0;
        try (KafkaProducer<byte[], byte[]> producer =
                 new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            Deque<Future<RecordMetadata>> pending = new ConcurrentLinkedDeque<>();
            while (!job.stopping()) {
                String key = job.text("prefix") + "-" + number;
                byte[] data = key.getBytes(StandardCharsets.UTF_8);
                int partition = number % job.get("partitions").asInt();
                pending.add(producer.send(
                    new ProducerRecord<>(job.text("topic"), partition, data, data),
                    (metadata, error) -> {
                        if (error == null) {
                            job.emit("acked", List.of(key, metadata.partition(), metadata.offset()));
                        }
                    }));
                number++;
                job.stopped.await(pause, TimeUnit.MILLISECONDS);
                while (!pending.isEmpty() && (pending.peek().isDone() || pending.size() > most)) {
                    pending.poll().get();
                }
            }
            for (Future<RecordMetadata> future : pending) {
                future.get();
            }
        }
        return number;
    }

    private static Object run(Job job) throws Exception {
        switch (job.text("do")) {
            case "produce": return produce(job);
            case "read": return read(job);
            case "member": return member(job);
            case "steady": return steady(job);
            case "process": return Transactions.process(job);
            case "admin": return AdminCalls.make(job);
            case "tool": return ToolCalls.run(job);
            default: throw new IllegalArgumentException(job.text("do"));
        }
    }

    private static void answer(Job job) {
        try {
            job.emit("done", run(job));
        } catch (Throwable error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            cause.printStackTrace();
            ObjectNode event = JSON.createObjectNode();
            event.put("job", job.number);
            event.put("failed", cause.toString());
            if (cause instanceof ApiException) {
                event.put("code", Errors.forException(cause).code());
            }
            write(event);
        }
    }

    public static void main(String[] arguments) throws Exception {
        output = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        System.setOut(System.err); // what a logger says is not part of the answers
        write(JSON.createObjectNode().put("ready", "kafka-clients " + AppInfoParser.getVersion()));
        Map<Integer, Job> running = new TreeMap<>();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = input.readLine()) != null) {
            JsonNode fields = JSON.readTree(line);
            if (fields.has("stop")) {
                running.get(fields.get("job").asInt()).stopped.countDown();
                continue;
            }
            Job job = new Job(fields);
            running.put(job.number, job);
            Thread thread = new Thread(() -> answer(job), "job-" + job.number);
            thread.setDaemon(true);
            thread.start();
        }
        System.exit(0);
    }
}
