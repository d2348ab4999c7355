package org.medge.screens;

import android.app.Activity;
import android.app.Application;
import android.content.Context;
import android.content.ContextWrapper;
import android.graphics.Bitmap;
import android.graphics.Bitmap_Delegate;
import android.graphics.Canvas;
import android.os.Bundle;
import android.os.Handler;
import android.os.Handler_Delegate;
import android.view.AttachInfo_Accessor;
import android.view.View;
import android.view.ViewGroup;
import com.android.ide.common.rendering.api.ActionBarCallback;
import com.android.ide.common.rendering.api.AdapterBinding;
import com.android.ide.common.rendering.api.HardwareConfig;
import com.android.ide.common.rendering.api.ILayoutPullParser;
import com.android.ide.common.rendering.api.LayoutLog;
import com.android.ide.common.rendering.api.LayoutlibCallback;
import com.android.ide.common.rendering.api.ParserFactory;
import com.android.ide.common.rendering.api.RenderSession;
import com.android.ide.common.rendering.api.ResourceReference;
import com.android.ide.common.rendering.api.ResourceValue;
import com.android.ide.common.rendering.api.SessionParams;
import com.android.ide.common.resources.FrameworkResources;
import com.android.ide.common.resources.ResourceItem;
import com.android.ide.common.resources.ResourceRepository;
import com.android.ide.common.resources.ResourceResolver;
import com.android.ide.common.resources.configuration.DensityQualifier;
import com.android.ide.common.resources.configuration.FolderConfiguration;
import com.android.ide.common.resources.configuration.LocaleQualifier;
import com.android.ide.common.resources.configuration.NightModeQualifier;
import com.android.ide.common.resources.configuration.ScreenDimensionQualifier;
import com.android.ide.common.resources.configuration.ScreenOrientationQualifier;
import com.android.ide.common.resources.configuration.ScreenRatioQualifier;
import com.android.ide.common.resources.configuration.ScreenSizeQualifier;
import com.android.ide.common.resources.configuration.UiModeQualifier;
import com.android.ide.common.resources.configuration.VersionQualifier;
import com.android.io.FolderWrapper;
import com.android.layoutlib.bridge.Bridge;
import com.android.layoutlib.bridge.android.BridgeContext;
import com.android.layoutlib.bridge.impl.RenderAction;
import com.android.layoutlib.bridge.impl.RenderSessionImpl;
import com.android.resources.Density;
import com.android.resources.NightMode;
import com.android.resources.ResourceType;
import com.android.resources.ScreenOrientation;
import com.android.resources.ScreenRatio;
import com.android.resources.ScreenSize;
import com.android.resources.UiMode;
import com.android.util.Pair;
import com.android.utils.StdLogger;
import java.awt.image.BufferedImage;
import java.io.File;
import java.io.FileInputStream;
import java.io.StringReader;
import java.lang.reflect.Field;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.kxml2.io.KXmlParser;
import org.xmlpull.v1.XmlPullParser;

/** layoutlib set up with the app's resources, and one screen at a time on it. */
final class Stage {
    static final int DENSITY = 2;
    private final Bridge bridge = new Bridge();
    private final FrameworkResources framework;
    private final ResourceRepository project;
    private final Map<Integer, Pair<ResourceType, String>> names = new HashMap<>();
    private final Map<String, Integer> ids = new HashMap<>();
    private RenderSessionImpl session;
    private Look look;
    private BridgeContext context;
    private ViewGroup root;
    private ViewGroup content;

    Stage(File layoutlib, File resources) throws Exception {
        File data = new File(layoutlib, "data");
        framework = new FrameworkResources(new FolderWrapper(new File(data, "res")));
        framework.loadResources();
        framework.loadPublicResources(new StdLogger(StdLogger.Level.WARNING));
        project = new ResourceRepository(new FolderWrapper(resources), false) {
            @Override
            protected ResourceItem createResourceItem(String name) {
                return new ResourceItem(name);
            }
        };
        project.loadResources();
        Properties read = new Properties();
        try (FileInputStream stream = new FileInputStream(new File(layoutlib, "build.prop"))) {
            read.load(stream);
        }
        Map<String, String> properties = new HashMap<>();
        for (String name : read.stringPropertyNames()) properties.put(name, read.getProperty(name));
        // What Android asks of its virtual machine, layoutlib answers with no: this one has 64 bits all the same.
        properties.put("ro.product.cpu.abilist32", "x86_64");
        Map<String, Map<String, Integer>> enums = Enums.of(new File(data, "res/values/attrs.xml"));
        if (!bridge.init(properties, new File(data, "fonts"), enums, log)) throw new IllegalStateException("layoutlib does not start");
        for (Class<?> kind : Class.forName("org.medge.app.R").getDeclaredClasses()) {
            ResourceType type = ResourceType.getEnum(kind.getSimpleName());
            for (Field field : kind.getDeclaredFields()) {
                if (field.getType() != int.class) continue;
                names.put(field.getInt(null), Pair.of(type, field.getName()));
                ids.put(type + "/" + field.getName(), field.getInt(null));
            }
        }
    }

    /** Name of a view's id; null where it has none of the app's. */
    String nameOf(int id) {
        Pair<ResourceType, String> name = names.get(id);
        return name == null ? null : name.getSecond();
    }

    BridgeContext context() {
        return context;
    }

    ViewGroup root() {
        return root;
    }

    Look look() {
        return look;
    }

    /** An empty screen; the one before it is gone. */
    void show(Look wanted, Handler... living) throws Exception {
        close(living);
        look = wanted;
        Locale.setDefault(new Locale(look.language));
        int width = look.width * DENSITY;
        int height = look.height * DENSITY;
        ScreenOrientation orientation = width > height ? ScreenOrientation.LANDSCAPE : ScreenOrientation.PORTRAIT;
        boolean tablet = Math.min(look.width, look.height) >= 600;
        ScreenSize size = tablet ? ScreenSize.XLARGE : ScreenSize.NORMAL;
        FolderConfiguration configuration = new FolderConfiguration();
        configuration.createDefault();
        configuration.setDensityQualifier(new DensityQualifier(Density.XHIGH));
        configuration.setScreenDimensionQualifier(new ScreenDimensionQualifier(Math.max(width, height), Math.min(width, height)));
        configuration.setScreenRatioQualifier(new ScreenRatioQualifier(ScreenRatio.NOTLONG));
        configuration.setScreenSizeQualifier(new ScreenSizeQualifier(size));
        configuration.setScreenOrientationQualifier(new ScreenOrientationQualifier(orientation));
        configuration.updateScreenWidthAndHeight();
        configuration.setUiModeQualifier(new UiModeQualifier(UiMode.NORMAL));
        configuration.setNightModeQualifier(new NightModeQualifier(look.night ? NightMode.NIGHT : NightMode.NOTNIGHT));
        configuration.setLocaleQualifier(new LocaleQualifier(look.language));
        configuration.setVersionQualifier(new VersionQualifier(23));
        ResourceResolver resolver = ResourceResolver.create(
            project.getConfiguredResources(configuration), framework.getConfiguredResources(configuration), "Medge", true);
        HardwareConfig hardware = new HardwareConfig(width, height, Density.XHIGH, 320, 320, size, orientation, null, true);
        SessionParams parameters = new SessionParams(
            new Empty(), SessionParams.RenderingMode.NORMAL, null, hardware, resolver, new Callback(), 23, 35, log);
        parameters.setForceNoDecor();
        parameters.setLocale(look.language);
        RenderSession made = bridge.createSession(parameters);
        if (!made.getResult().isSuccess()) throw new IllegalStateException(made.getResult().getErrorMessage(), made.getResult().getException());
        Field inner = made.getClass().getDeclaredField("mSession");
        inner.setAccessible(true);
        session = (RenderSessionImpl) inner.get(made);
        Bridge.prepareThread();
        session.acquire(10_000);
        context = RenderAction.getCurrentContext();
        context.getMetrics().scaledDensity *= look.fontScale;
        context.getResources().getDisplayMetrics().scaledDensity = context.getMetrics().scaledDensity;
        context.getConfiguration().fontScale = look.fontScale;
        context.getResources().getConfiguration().fontScale = look.fontScale;
        Field view = RenderSessionImpl.class.getDeclaredField("mViewRoot");
        view.setAccessible(true);
        root = (ViewGroup) view.get(session);
        Field within = RenderSessionImpl.class.getDeclaredField("mContentRoot");
        within.setAccessible(true);
        content = (ViewGroup) within.get(session);
        content.removeAllViews();
    }

    /** The app's own application object on this screen's context. */
    <T extends Application> T application(Class<T> kind, Context host) throws Exception {
        T made = kind.getDeclaredConstructor().newInstance();
        Field base = ContextWrapper.class.getDeclaredField("mBase");
        base.setAccessible(true);
        base.set(made, host);
        return made;
    }

    /** Let an activity begin here, as a new one or from what another has saved. */
    <T extends Activity> T begin(Class<T> kind, Application application, Context host, Bundle state) throws Exception {
        T made = kind.getDeclaredConstructor().newInstance();
        made.attach(host, application, content);
        made.performCreate(state);
        made.performStart(state);
        return made;
    }

    /** Give up the screen, and what was sent to its views. */
    void close(Handler... living) {
        if (session == null) return;
        Handler_Delegate.clear(living);
        session.release();
        Bridge.cleanupThread();
        session = null;
    }

    /** Measure and lay out for so many pixels of height. */
    void arrange(int height) {
        AttachInfo_Accessor.setAttachInfo(root);
        for (int pass = 0; pass < 2; pass++) {
            root.measure(View.MeasureSpec.makeMeasureSpec(look.width * DENSITY, View.MeasureSpec.EXACTLY),
                View.MeasureSpec.makeMeasureSpec(height, View.MeasureSpec.EXACTLY));
            root.layout(0, 0, look.width * DENSITY, height);
            Handler_Delegate.deliver();
        }
    }

    /** Draw what `arrange` has laid out. */
    BufferedImage draw() throws Exception {
        AttachInfo_Accessor.dispatchOnPreDraw(root);
        BufferedImage image = new BufferedImage(root.getWidth(), root.getHeight(), BufferedImage.TYPE_INT_ARGB);
        Bitmap bitmap = Bitmap_Delegate.createBitmap(image, true, Density.XHIGH);
        Canvas canvas = new Canvas(bitmap);
        canvas.setDensity(Density.XHIGH.getDpiValue());
        root.draw(canvas);
        return image;
    }

    private final Set<String> told = new HashSet<>();
    private final LayoutLog log = new LayoutLog() {
        @Override
        public void warning(String tag, String message, Object data) {
            if (told.add(message)) System.err.println("layoutlib warns: " + message);
        }

        @Override
        public void fidelityWarning(String tag, String message, Throwable throwable, Object data) {
            if (told.add(message)) System.err.println("not drawn as on a phone: " + message);
        }

        @Override
        public void error(String tag, String message, Object data) {
            throw new IllegalStateException(tag + ": " + message);
        }

        @Override
        public void error(String tag, String message, Throwable throwable, Object data) {
            throw new IllegalStateException(tag + ": " + message, throwable);
        }
    };

    /** A layout with nothing in it, into which an activity puts its own. */
    private static final class Empty extends KXmlParser implements ILayoutPullParser {
        Empty() throws Exception {
            setFeature(XmlPullParser.FEATURE_PROCESS_NAMESPACES, true);
            setInput(new StringReader("<FrameLayout xmlns:android=\"http://schemas.android.com/apk/res/android\""
                + " android:layout_width=\"match_parent\" android:layout_height=\"match_parent\" />"));
        }

        @Override
        public Object getViewCookie() {
            return null;
        }

        @Override
        public ILayoutPullParser getParser(String name) {
            return null;
        }
    }

    private final class Callback extends LayoutlibCallback {
        @Override
        public Object loadView(String name, Class[] signature, Object[] arguments) throws Exception {
            return Class.forName(name).getConstructor(signature).newInstance(arguments);
        }

        @Override
        public String getNamespace() {
            return "http://schemas.android.com/apk/res/org.medge.app";
        }

        @Override
        public Pair<ResourceType, String> resolveResourceId(int id) {
            return names.get(id);
        }

        @Override
        public String resolveResourceId(int[] id) {
            return null;
        }

        @Override
        public Integer getResourceId(ResourceType type, String name) {
            return ids.computeIfAbsent(type + "/" + name, unknown -> {
                int made = 0x7f7f0000 + ids.size();
                names.put(made, Pair.of(type, name));
                return made;
            });
        }

        @Override
        public ILayoutPullParser getParser(String name) {
            return null;
        }

        @Override
        public ILayoutPullParser getParser(ResourceValue layout) {
            return null;
        }

        @Override
        public Object getAdapterItemValue(ResourceReference view, Object cookie, ResourceReference item, int full, int perType, int fullParent,
            int parentPerType, ResourceReference viewRef, ViewAttribute attribute, Object defaultValue) {
            return null;
        }

        @Override
        public AdapterBinding getAdapterBinding(ResourceReference view, Object cookie, Object object) {
            return null;
        }

        @Override
        public ActionBarCallback getActionBarCallback() {
            return new ActionBarCallback();
        }

        @Override
        public boolean supports(int feature) {
            return false;
        }

        @Override
        public ParserFactory getParserFactory() {
            return new ParserFactory() {
                @Override
                public XmlPullParser createParser(String name) {
                    return new KXmlParser();
                }
            };
        }
    }
}
