// Answers questions about record batches with Apache Kafka's own classes.
//
// Reads requests from standard input, writes answers to standard output, until the input ends. All numbers are
// big-endian. A request is one byte for the operation, then:
//   'A' append: int16 produce version, int64 now, int32 max.message.bytes, int32 segment.bytes, byte log append time,
//       int64 before max ms, int64 after max ms, byte compacted, bytes compression.type, bytes records
//       -> int16 error code, bytes of the log afterwards
//   'R' read: bytes records -> byte ok, bytes text (a line for each record)
//   'B' build: byte codec, int32 record count, records (int64 timestamp, key, value, int32 header count, headers)
//       -> bytes batch
//   'M' end marker: int64 offset, int64 timestamp, int32 leader epoch, int64 producer id, int16 producer epoch,
//       byte commit, int32 coordinator epoch -> bytes batch
//   'E' empty: bytes batch -> bytes of the empty batch that compaction leaves of it
// where bytes are an int32 length (-1 for null) and the bytes.

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.DefaultRecordBatch;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.server.util.KafkaScheduler;
import org.apache.kafka.storage.internals.log.LogConfig;
import org.apache.kafka.storage.internals.log.LogDirFailureChannel;
import org.apache.kafka.storage.internals.log.ProducerStateManagerConfig;
import org.apache.kafka.storage.internals.log.RecordValidationException;
import org.apache.kafka.storage.internals.log.UnifiedLog;
import org.apache.kafka.storage.log.metrics.BrokerTopicStats;

public class Oracle {
    static long now;

    static final Time CLOCK = (Time) java.lang.reflect.Proxy.newProxyInstance(
        Oracle.class.getClassLoader(), new Class<?>[] {Time.class}, (proxy, method, arguments) ->
            method.getName().equals("milliseconds") ? (Object) now : method.invoke(Time.SYSTEM, arguments));

    static byte[] bytes(DataInputStream in) throws IOException {
        int length = in.readInt();
        return length < 0 ? null : in.readNBytes(length);
    }

    static void answer(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes.length);
        out.write(bytes);
    }

    static byte[] bytes(ByteBuffer buffer) {
        byte[] copy = new byte[buffer.remaining()];
        buffer.duplicate().get(copy);
        return copy;
    }

    static String hex(ByteBuffer buffer) {
        return buffer == null ? "null" : "x" + java.util.HexFormat.of().formatHex(bytes(buffer));
    }

    final Map<String, UnifiedLog> logs = new HashMap<>();
    final File root;

    Oracle(File root) {
        this.root = root;
    }

    UnifiedLog log(Properties settings) throws IOException {
        String name = settings.toString();
        UnifiedLog log = logs.get(name);
        if (log == null) {
            File directory = new File(root, "topic" + logs.size() + "-0");
            directory.mkdirs();
            KafkaScheduler scheduler = new KafkaScheduler(1);
            log = UnifiedLog.create(directory, new LogConfig(settings), 0L, 0L, scheduler,
                new BrokerTopicStats(), CLOCK, 60000, new ProducerStateManagerConfig(86400000, false), 600000,
                new LogDirFailureChannel(10), true, Optional.of(Uuid.randomUuid()));
            logs.put(name, log);
        }
        return log;
    }

    void append(DataInputStream in, DataOutputStream out) throws IOException {
        short version = in.readShort();
        now = in.readLong();
        Properties settings = new Properties();
        settings.setProperty("max.message.bytes", "" + in.readInt());
        settings.setProperty("segment.bytes", "" + in.readInt());
        settings.setProperty("message.timestamp.type", in.readByte() != 0 ? "LogAppendTime" : "CreateTime");
        settings.setProperty("message.timestamp.before.max.ms", "" + in.readLong());
        settings.setProperty("message.timestamp.after.max.ms", "" + in.readLong());
        settings.setProperty("cleanup.policy", in.readByte() != 0 ? "compact" : "delete");
        settings.setProperty("compression.type", new String(bytes(in), StandardCharsets.UTF_8));
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(bytes(in)));
        UnifiedLog log = log(settings);
        byte[] stored = new byte[0];
        Errors error = Errors.NONE;
        try {
            ProduceRequest.validateRecords(version, records);
            log.appendAsLeader(records, 7);
            log.flush(false);
            stored = Files.readAllBytes(log.activeSegment().log().file().toPath());
            // Preallocation is off, so the file ends with the batch.
        } catch (Throwable failure) {
            // ReplicaManager answers with what the log wraps together with the single records' errors.
            error = Errors.forException(
                failure instanceof RecordValidationException refused ? refused.invalidException() : failure);
        }
        log.truncateFullyAndStartAt(0, Optional.empty());
        out.writeShort(error.code());
        answer(out, stored);
    }

    static void read(DataInputStream in, DataOutputStream out) throws IOException {
        StringBuilder text = new StringBuilder();
        boolean ok = true;
        try {
            for (MutableRecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(bytes(in))).batches()) {
                batch.ensureValid();
                for (Record record : batch) {
                    text.append(record.offset()).append(' ').append(record.timestamp()).append(' ');
                    text.append(hex(record.key())).append(' ').append(hex(record.value()));
                    for (Header header : record.headers()) {
                        text.append(' ').append(hex(ByteBuffer.wrap(Utils.utf8(header.key()))));
                        text.append('=').append(hex(Utils.wrapNullable(header.value())));
                    }
                    text.append('\n');
                }
            }
        } catch (Throwable failure) {
            ok = false;
            text.append(failure);
        }
        out.writeByte(ok ? 1 : 0);
        answer(out, Utils.utf8(text.toString()));
    }

    static void build(DataInputStream in, DataOutputStream out) throws IOException {
        CompressionType codec = CompressionType.forId(in.readByte());
        SimpleRecord[] records = new SimpleRecord[in.readInt()];
        for (int index = 0; index < records.length; index++) {
            long timestamp = in.readLong();
            byte[] key = bytes(in);
            byte[] value = bytes(in);
            Header[] headers = new Header[in.readInt()];
            for (int place = 0; place < headers.length; place++)
                headers[place] = new RecordHeader(Utils.utf8(bytes(in)), bytes(in));
            records[index] = new SimpleRecord(timestamp, key, value, headers);
        }
        answer(out, bytes(MemoryRecords.withRecords(Compression.of(codec).build(), records).buffer()));
    }

    static void marker(DataInputStream in, DataOutputStream out) throws IOException {
        long offset = in.readLong();
        long timestamp = in.readLong();
        int leaderEpoch = in.readInt();
        long producerId = in.readLong();
        short producerEpoch = in.readShort();
        ControlRecordType type = in.readByte() != 0 ? ControlRecordType.COMMIT : ControlRecordType.ABORT;
        EndTransactionMarker marker = new EndTransactionMarker(type, in.readInt());
        answer(out, bytes(MemoryRecords.withEndTransactionMarker(
            offset, timestamp, leaderEpoch, producerId, producerEpoch, marker).buffer()));
    }

    static void empty(DataInputStream in, DataOutputStream out) throws IOException {
        DefaultRecordBatch batch = (DefaultRecordBatch) MemoryRecords.readableRecords(ByteBuffer.wrap(bytes(in)))
            .firstBatch();
        ByteBuffer buffer = ByteBuffer.allocate(DefaultRecordBatch.RECORD_BATCH_OVERHEAD);
        DefaultRecordBatch.writeEmptyHeader(buffer, batch.magic(), batch.producerId(), batch.producerEpoch(),
            batch.baseSequence(), batch.baseOffset(), batch.lastOffset(), batch.partitionLeaderEpoch(),
            batch.timestampType(), batch.maxTimestamp(), batch.isTransactional(), batch.isControlBatch());
        answer(out, buffer.array());
    }

    public static void main(String[] arguments) throws IOException {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
        System.setOut(new PrintStream(System.err));
        Oracle oracle = new Oracle(new File(arguments[0]));
        int operation;
        while ((operation = in.read()) >= 0) {
            switch (operation) {
                case 'A' -> oracle.append(in, out);
                case 'R' -> read(in, out);
                case 'B' -> build(in, out);
                case 'E' -> empty(in, out);
                case 'M' -> marker(in, out);
                default -> throw new IllegalArgumentException("operation " + operation);
            }
            out.flush();
        }
        System.exit(0);
    }
}
