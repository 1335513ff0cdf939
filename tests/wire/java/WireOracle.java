import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/**
 * Reads messages with Apache Kafka's own classes.
 *
 * A line in is "class version hex"; a line out is "rest hex json": how many bytes were left unread, what Kafka
 * writes for what it has read, and the fields by name. If Kafka cannot read it, the line is "! exception".
 */
public final class WireOracle {
    private static final Map<String, Method> CONVERTERS = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII), 1 << 20);
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ", -1);
            out.println(answer(words[0], Short.parseShort(words[1]), HexFormat.of().parseHex(words[2])));
            out.flush();
        }
    }

    private static String answer(String name, short version, byte[] bytes) throws Exception {
        Class<?> type = Class.forName(name);
        Message message = (Message) type.getDeclaredConstructor().newInstance();
        ByteBufferAccessor readable = new ByteBufferAccessor(ByteBuffer.wrap(bytes));
        try {
            message.read(readable, version);
        } catch (RuntimeException e) {
            return "! " + e.toString().replace('\n', ' ');
        }
        ObjectSerializationCache cache = new ObjectSerializationCache();
        byte[] written = new byte[message.size(cache, version)];
        message.write(new ByteBufferAccessor(ByteBuffer.wrap(written)), cache, version);
        return readable.remaining() + " " + HexFormat.of().formatHex(written) + " " + json(type, message, version);
    }

    private static JsonNode json(Class<?> type, Message message, short version) throws Exception {
        Method write = CONVERTERS.get(type.getName());
        if (write == null) {
            Class<?> converter = Class.forName(type.getName() + "JsonConverter");
            write = converter.getMethod("write", type, short.class, boolean.class);
            CONVERTERS.put(type.getName(), write);
        }
        try {
            return (JsonNode) write.invoke(null, message, version, false);
        } catch (InvocationTargetException e) {
            throw (Exception) e.getCause();
        }
    }
}
