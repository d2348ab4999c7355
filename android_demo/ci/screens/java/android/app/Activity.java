package android.app;

import android.content.Context;
import android.content.Intent;
import android.content.res.Resources;
import android.os.Bundle;
import android.os.Parcelable;
import android.util.SparseArray;
import android.view.ContextThemeWrapper;
import android.view.LayoutInflater;
import android.view.View;
import android.view.ViewGroup;
import java.util.ArrayList;
import java.util.List;

/**
 * Stands in for Android's Activity on a desktop: contents, callbacks of the life cycle, saved state and what was started.
 *
 * It has no window, no task and no system behind it: whoever tests calls the callbacks in Android's order.
 */
public class Activity extends ContextThemeWrapper {
    public static final int RESULT_CANCELED = 0;
    public static final int RESULT_OK = -1;

    /** What this activity has asked the system to start, in order. */
    public final List<Intent> started = new ArrayList<>();
    public int lastRequest;
    public boolean finished;
    private Application application;
    private ViewGroup content;

    public final void attach(Context context, Application application, ViewGroup content) {
        attachBaseContext(context);
        this.application = application;
        this.content = content;
    }

    public final void performCreate(Bundle state) {
        onCreate(state);
    }

    public final void performStart(Bundle state) {
        onStart();
        if (state != null) onRestoreInstanceState(state);
        onResume();
    }

    /** Leave the screen; gives what Android would keep for a new one. */
    public final Bundle performStop() {
        onPause();
        Bundle state = new Bundle();
        onSaveInstanceState(state);
        onStop();
        return state;
    }

    public final void performDestroy() {
        onDestroy();
        content.removeAllViews();
    }

    public final void performResult(int request, int result, Intent data) {
        onActivityResult(request, result, data);
    }

    protected void onCreate(Bundle state) {}

    protected void onStart() {}

    protected void onResume() {}

    protected void onPause() {}

    protected void onStop() {}

    protected void onDestroy() {}

    protected void onSaveInstanceState(Bundle state) {
        SparseArray<Parcelable> views = new SparseArray<>();
        content.saveHierarchyState(views);
        state.putSparseParcelableArray("views", views);
    }

    protected void onRestoreInstanceState(Bundle state) {
        SparseArray<Parcelable> views = state.getSparseParcelableArray("views");
        if (views != null) content.restoreHierarchyState(views);
    }

    protected void onActivityResult(int request, int result, Intent data) {}

    public void onBackPressed() {
        finish();
    }

    public void finish() {
        finished = true;
    }

    public final Application getApplication() {
        return application;
    }

    public void setContentView(int layout) {
        content.removeAllViews();
        LayoutInflater.from(this).inflate(layout, content);
    }

    public View findViewById(int id) {
        return content.findViewById(id);
    }

    public LayoutInflater getLayoutInflater() {
        return LayoutInflater.from(this);
    }

    @Override
    public Object getSystemService(String name) {
        return getBaseContext().getSystemService(name);
    }

    @Override
    public Resources.Theme getTheme() {
        return getBaseContext().getTheme();
    }

    @Override
    public Resources getResources() {
        return getBaseContext().getResources();
    }

    @Override
    public void startActivity(Intent intent) {
        started.add(intent);
    }

    public void startActivityForResult(Intent intent, int request) {
        started.add(intent);
        lastRequest = request;
    }

    public final void runOnUiThread(Runnable action) {
        action.run();
    }

    public final boolean isFinishing() {
        return finished;
    }
}
