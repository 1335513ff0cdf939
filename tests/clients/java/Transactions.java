import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Reads, writes and commits both in transactions; after an error it starts over, from what is committed. */
final class Transactions {
    private static final class AbortedException extends KafkaException {
    }

    private final Peer.Job job;
    private int attempts;

    private Transactions(Peer.Job job) {
        this.job = job;
    }

    static Object process(Peer.Job job) {
        Transactions work = new Transactions(job);
        while (!job.stopping()) {
            try (KafkaProducer<byte[], byte[]> producer = work.producer()) {
                producer.initTransactions();
                work.consume(producer);
            } catch (KafkaException error) {
                job.emit("trouble", error.toString());
            }
        }
        return work.attempts;
    }

    private KafkaProducer<byte[], byte[]> producer() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", job.text("bootstrap"));
        settings.put("transactional.id", job.text("transactional_id"));
        settings.put("transaction.timeout.ms", "20000");
        settings.put("linger.ms", "0");
        settings.put("request.timeout.ms", "5000");
        settings.put("reconnect.backoff.ms", "20");
        settings.put("reconnect.backoff.max.ms", "200");
        settings.put("retry.backoff.ms", "20");
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", job.text("bootstrap"));
        settings.put("group.id", job.text("group"));
        settings.put("group.instance.id", job.text("instance"));
        settings.put("isolation.level", "read_committed");
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("max.poll.records", "5");
        settings.put("session.timeout.ms", "2000");
        settings.put("heartbeat.interval.ms", "300");
        settings.put("fetch.max.wait.ms", "50");
        settings.put("reconnect.backoff.ms", "20");
        settings.put("reconnect.backoff.max.ms", "200");
        settings.put("retry.backoff.ms", "20");
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private void consume(KafkaProducer<byte[], byte[]> producer) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            List<String> topics = new ArrayList<>();
            job.get("topics").forEach(topic -> topics.add(topic.asText()));
            consumer.subscribe(topics);
            while (!job.stopping()) {
                ConsumerRecords<byte[], byte[]> polled = consumer.poll(Duration.ofMillis(50));
                if (polled.isEmpty()) {
                    continue;
                }
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<byte[], byte[]> record : polled) {
                    producer.send(new ProducerRecord<>(
                        job.text("topic"), record.partition(), record.key(), record.value()));
                    offsets.put(
                        new TopicPartition(record.topic(), record.partition()),
                        new OffsetAndMetadata(record.offset() + 1));
                }
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                attempts++;
                if (attempts % job.get("abort_every").asInt() == 0) {
                    producer.abortTransaction();
                    throw new AbortedException();
                }
                producer.commitTransaction();
                job.emit("committed", polled.count());
            }
        }
    }
}
