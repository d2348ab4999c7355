package android.os;

import java.util.Comparator;
import java.util.concurrent.PriorityBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Where layoutlib's Handler sends messages: to one queue for all threads, which the main thread empties when it is told to. */
public final class Handler_Delegate {
    public interface IHandlerCallback {
        void sendMessageAtTime(Handler handler, Message message, long uptime);
    }

    private static final class Sent {
        final Handler handler;
        final Message message;
        final long due;
        final long order;

        Sent(Handler handler, Message message, long due, long order) {
            this.handler = handler;
            this.message = message;
            this.due = due;
            this.order = order;
        }
    }

    private static final PriorityBlockingQueue<Sent> QUEUE = new PriorityBlockingQueue<>(
        11, Comparator.<Sent>comparingLong(sent -> sent.due).thenComparingLong(sent -> sent.order));
    private static long count;

    private Handler_Delegate() {}

    public static void setCallback(IHandlerCallback callback) {}

    static synchronized boolean sendMessageAtTime(Handler handler, Message message, long uptime) {
        QUEUE.add(new Sent(handler, message, uptime, count++));
        return true;
    }

    /** Forget what was sent to screens that are no more, but not what was sent to these. */
    public static void clear(Handler... living) {
        QUEUE.removeIf(sent -> !java.util.Arrays.asList(living).contains(sent.handler));
    }

    /** Deliver the next message that is due, if any is. */
    public static boolean deliverOne() {
        Sent next = QUEUE.peek();
        if (next == null || next.due > SystemClock.uptimeMillis()) return false;
        QUEUE.poll();
        next.handler.dispatchMessage(next.message);
        return true;
    }

    /** Deliver what is due now, but not what that sends for later. */
    public static void deliver() {
        long now = SystemClock.uptimeMillis();
        for (int most = 1000; most > 0; most--) {
            Sent next = QUEUE.peek();
            if (next == null || next.due > now) return;
            QUEUE.poll();
            next.handler.dispatchMessage(next.message);
        }
    }

    /** Deliver for so long, or until what is awaited has come. */
    public static boolean deliverUntil(java.util.function.BooleanSupplier come, long milliseconds) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(milliseconds);
        while (System.nanoTime() < end) {
            if (come.getAsBoolean()) return true;
            if (!deliverOne()) Thread.sleep(2);
        }
        return false;
    }
}
