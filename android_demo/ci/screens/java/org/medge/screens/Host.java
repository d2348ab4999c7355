package org.medge.screens;

import android.app.HostActivityManager;
import android.content.ContentResolver;
import android.content.Context;
import android.content.ContextWrapper;
import android.content.SharedPreferences;
import java.io.File;
import java.lang.reflect.Field;
import java.lang.reflect.Proxy;
import java.util.HashMap;
import java.util.Map;

/** The app's context on a desktop: layoutlib's, with folders, preferences and a phone's memory. */
final class Host extends ContextWrapper {
    private final File folder;
    private final Map<String, Object> preferences;

    Host(Context base, File folder, Map<String, Object> preferences) {
        super(base);
        this.folder = folder;
        this.preferences = preferences;
    }

    /** To another screen, as a phone that is turned. */
    void move(Context base) throws ReflectiveOperationException {
        Field field = ContextWrapper.class.getDeclaredField("mBase");
        field.setAccessible(true);
        field.set(this, base);
    }

    @Override
    public ContentResolver getContentResolver() {
        return new ContentResolver(this);
    }

    @Override
    public File getFilesDir() {
        return made("files");
    }

    @Override
    public File getCacheDir() {
        return made("cache");
    }

    private File made(String name) {
        File made = new File(folder, name) {
            @Override
            public long getUsableSpace() {
                return 41_300_000_000L;
            }
        };
        made.mkdirs();
        return made;
    }

    @Override
    public String getPackageName() {
        return "org.medge.app";
    }

    @Override
    public Context getApplicationContext() {
        return this;
    }

    @Override
    public Object getSystemService(String name) {
        return ACTIVITY_SERVICE.equals(name) ? new HostActivityManager(this) : super.getSystemService(name);
    }

    @Override
    public SharedPreferences getSharedPreferences(String name, int mode) {
        return (SharedPreferences) Proxy.newProxyInstance(Host.class.getClassLoader(), new Class<?>[] {SharedPreferences.class}, (self, method, given) -> {
            switch (method.getName()) {
                case "edit": return editor(name);
                case "contains": return preferences.containsKey(name + "/" + given[0]);
                case "getAll": return new HashMap<>(preferences);
                default: return given != null && given.length == 2 ? preferences.getOrDefault(name + "/" + given[0], given[1]) : null;
            }
        });
    }

    private SharedPreferences.Editor editor(String name) {
        return (SharedPreferences.Editor) Proxy.newProxyInstance(Host.class.getClassLoader(), new Class<?>[] {SharedPreferences.Editor.class}, (self, method, given) -> {
            if (method.getName().startsWith("put")) preferences.put(name + "/" + given[0], given[1]);
            if (method.getName().equals("remove")) preferences.remove(name + "/" + given[0]);
            return method.getReturnType() == boolean.class ? Boolean.TRUE : method.getReturnType() == void.class ? null : self;
        });
    }
}
