// Answers questions about configuration keys with Apache Kafka's own classes.
//
// A line of standard input is a question, a line of standard output its answer; fields are separated by tabs and
// URL-encoded, null is a lone minus sign:
//   keys                          -> "key" lines: table, name, type, default, importance, dynamic mode, internal; then "end"
//   synonyms                      -> "synonym" lines: table, name, broker keys...; then "end"
//   parse TABLE NAME TEXT         -> ok, canonical text   or   error, message
//   properties TEXT               -> "property" lines: key, value; then "end"   or   error, message
// Tables are broker, topic and group.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.StringReader;
import java.lang.reflect.Field;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.coordinator.group.GroupConfig;
import org.apache.kafka.server.config.AbstractKafkaConfig;
import org.apache.kafka.server.config.ConfigSynonym;
import org.apache.kafka.server.config.DynamicBrokerConfig;
import org.apache.kafka.server.config.ServerTopicConfigSynonyms;
import org.apache.kafka.storage.internals.log.LogConfig;

public final class Oracle {
    private static final Map<String, Map<String, ConfigDef.ConfigKey>> TABLES = new LinkedHashMap<>();
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    public static void main(String[] arguments) throws Exception {
        Map<String, ConfigDef.ConfigKey> broker = new LinkedHashMap<>(AbstractKafkaConfig.CONFIG_DEF.configKeys());
        Field dynamic = Class.forName("org.apache.kafka.server.config.DynamicConfig$Broker").getDeclaredField("BROKER_CONFIGS");
        dynamic.setAccessible(true);
        ((ConfigDef) dynamic.get(null)).configKeys().forEach(broker::putIfAbsent);
        TABLES.put("broker", broker);
        TABLES.put("topic", LogConfig.configDefCopy().configKeys());
        TABLES.put("group", GroupConfig.CONFIG_DEF.configKeys());
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] question = line.split("\t", -1);
            switch (question[0]) {
                case "keys" -> keys();
                case "synonyms" -> synonyms();
                case "parse" -> parse(question[1], question[2], URLDecoder.decode(question[3], StandardCharsets.UTF_8));
                case "properties" -> properties(URLDecoder.decode(question[1], StandardCharsets.UTF_8));
                default -> throw new IllegalArgumentException(line);
            }
        }
    }

    private static void keys() {
        Map<String, String> modes = DynamicBrokerConfig.dynamicConfigUpdateModes();
        TABLES.forEach((table, keys) -> keys.forEach((name, key) -> {
            Object value = key.defaultValue == ConfigDef.NO_DEFAULT_VALUE ? null : key.defaultValue;
            answer("key", table, name, key.type.name(), ConfigDef.convertToString(value, key.type),
                key.importance.name(), table.equals("broker") ? modes.getOrDefault(name, "read-only") : "",
                String.valueOf(key.internalConfig));
        }));
        answer("end");
    }

    private static void synonyms() {
        ServerTopicConfigSynonyms.ALL_TOPIC_CONFIG_SYNONYMS.forEach((name, synonyms) -> answer("synonym", "topic", name,
            synonyms.stream().map(ConfigSynonym::name).reduce((a, b) -> a + " " + b).orElse("")));
        GroupConfig.ALL_GROUP_CONFIG_SYNONYMS.forEach((name, synonym) ->
            answer("synonym", "group", name, synonym.orElse("")));
        answer("end");
    }

    private static void parse(String table, String name, String text) {
        ConfigDef.ConfigKey key = TABLES.get(table).get(name);
        ConfigDef alone = new ConfigDef();
        alone.define(key);
        try {
            Object value = alone.parse(Map.of(name, text)).get(name);
            answer("ok", ConfigDef.convertToString(value, key.type));
        } catch (Exception error) {
            answer("error", String.valueOf(error.getMessage()));
        }
    }

    private static void properties(String text) throws Exception {
        Properties properties = new Properties();
        try {
            properties.load(new StringReader(text));
        } catch (IllegalArgumentException error) {
            answer("error", String.valueOf(error.getMessage()));
            return;
        }
        properties.forEach((key, value) -> answer("property", (String) key, (String) value));
        answer("end");
    }

    private static void answer(String... fields) {
        StringBuilder line = new StringBuilder();
        for (String field : fields) {
            if (line.length() > 0) line.append('\t');
            line.append(field == null ? "-" : field.equals("-") ? "%2D" : URLEncoder.encode(field, StandardCharsets.UTF_8));
        }
        OUT.println(line);
    }
}
