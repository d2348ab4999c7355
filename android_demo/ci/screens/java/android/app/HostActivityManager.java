package android.app;

import android.content.Context;

/** A phone's memory as a test sets it. */
public final class HostActivityManager extends ActivityManager {
    public static long total = 6_000_000_000L;
    public static long available = 3_400_000_000L;

    public HostActivityManager(Context context) {
        super(context, null);
    }

    @Override
    public void getMemoryInfo(MemoryInfo info) {
        info.totalMem = total;
        info.availMem = available;
        info.threshold = 200_000_000L;
    }
}
