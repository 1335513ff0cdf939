import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.common.utils.Exit;

/**
 * The job "tool": the main method of one of Kafka's command-line tools, as the scripts run it, but in this process, since
 * a process costs more than the tool. One at a time, since the standard streams are everybody's.
 */
final class ToolCalls {
    /** What a tool that ends the process throws here instead; many a tool then catches it as a failure. */
    private static final class Ended extends Error {
    }

    /** Where the standard streams lead: Scala keeps the first ones that it sees, so these stay and their end moves. */
    private static final class Switched extends OutputStream {
        private final OutputStream otherwise;
        private volatile OutputStream target;

        Switched(OutputStream otherwise) {
            this.otherwise = otherwise;
        }

        @Override
        public void write(int octet) throws IOException {
            (target == null ? otherwise : target).write(octet);
        }

        @Override
        public void write(byte[] data, int offset, int length) throws IOException {
            (target == null ? otherwise : target).write(data, offset, length);
        }
    }

    private static Switched switched;

    private ToolCalls() {
    }

    static synchronized Object run(Peer.Job job) throws Exception {
        List<String> arguments = new ArrayList<>();
        job.get("arguments").forEach(argument -> arguments.add(argument.asText()));
        if (switched == null) {
            switched = new Switched(System.err);
            PrintStream stream = new PrintStream(switched, true, StandardCharsets.UTF_8);
            System.setOut(stream);
            System.setErr(stream);
        }
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        switched.target = output;
        InputStream in = System.in;
        AtomicReference<Integer> status = new AtomicReference<>();
        Exit.setExitProcedure((number, message) -> {
            if (message != null) {
                System.out.println(message);
            }
            // The process would be gone here: nothing that follows counts.
            if (status.compareAndSet(null, number)) {
                switched.target = null;
            }
            throw new Ended();
        });
        List<Runnable> hooks = new CopyOnWriteArrayList<>();
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        if (job.has("input")) {
            System.setIn(new ByteArrayInputStream(job.text("input").getBytes(StandardCharsets.UTF_8)));
        }
        try {
            Class.forName(job.text("tool")).getMethod("main", String[].class)
                .invoke(null, (Object) arguments.toArray(new String[0]));
        } catch (InvocationTargetException error) {
            if (status.compareAndSet(null, 1)) {
                error.getCause().printStackTrace();
            }
        } finally {
            switched.target = output;
            hooks.forEach(Runnable::run);
            switched.target = null;
            System.setIn(in);
            Exit.resetExitProcedure();
            Exit.resetShutdownHookAdder();
        }
        status.compareAndSet(null, 0);
        return Map.of("status", status.get(), "output", output.toString(StandardCharsets.UTF_8));
    }
}
