package org.medge.screens;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;

import android.app.Activity;
import android.app.HostActivityManager;
import android.content.ContentResolver;
import android.content.Intent;
import android.net.Uri;
import android.os.Bundle;
import android.os.Handler;
import android.os.Handler_Delegate;
import android.view.View;
import android.view.ViewGroup;
import android.widget.ImageView;
import android.widget.ProgressBar;
import android.widget.TextView;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.File;
import java.io.RandomAccessFile;
import java.lang.reflect.Field;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;
import org.junit.After;
import org.junit.Before;
import org.junit.BeforeClass;
import org.junit.Test;
import org.medge.app.AskActivity;
import org.medge.app.BundlesActivity;
import org.medge.app.MainActivity;
import org.medge.app.MedgeApp;
import org.medge.app.R;

/**
 * The app's own activities with real models: what a person does by clicks, and what Android does to them.
 *
 * System properties: medge.layoutlib and medge.res, folders; medge.play, a JSON file with the folders of an `encoder` and a `generator`, a
 * `picture`, Python's `scores` of it as [label, which of these, does it hold] in their order, a `question`, its `answer` and its
 * `answerOfPicture`.
 */
public class AppTest {
    private static final long PATIENCE = 120_000;
    private static final Look UPRIGHT = Look.of("411x891-light-en-1.0");
    private static final Look LYING = Look.of("891x411-light-en-1.0");
    private static Stage stage;
    private static JsonObject given;
    private File folder;
    private Host host;
    private MedgeApp app;

    @BeforeClass
    public static void readies() throws Exception {
        stage = new Stage(new File(System.getProperty("medge.layoutlib")), new File(System.getProperty("medge.res")));
        given = new JsonParser().parse(Files.readString(Path.of(System.getProperty("medge.play")))).getAsJsonObject();
    }

    @Before
    public void starts() throws Exception {
        folder = Files.createTempDirectory("medge-app").toFile();
        HostActivityManager.available = 3_400_000_000L;
        stage.show(UPRIGHT);
        host = new Host(stage.context(), folder, new HashMap<>());
        app = stage.application(MedgeApp.class, host);
    }

    @After
    public void ends() {
        app.getModels().unload(app.getAnswering());
        stage.close();
    }

    @Test
    public void aBundleComesInByTheButtonAndTellsHowFarItIs() throws Exception {
        BundlesActivity screen = begin(BundlesActivity.class, null);
        assertEquals(host.getString(R.string.bundles_none), text(screen, R.id.encoder));
        click(screen, R.id.import_bundle);
        assertEquals(Intent.ACTION_OPEN_DOCUMENT_TREE, screen.started.get(0).getAction());
        picked(screen, ContentResolver.tree(path("encoder")));
        assertTrue(shown(screen, R.id.progress));
        assertFalse(screen.findViewById(R.id.import_bundle).isEnabled());
        int[] most = {0};
        awaits(() -> {
            if (shown(screen, R.id.progress)) most[0] = Math.max(most[0], ((ProgressBar) screen.findViewById(R.id.progress)).getProgress());
            return screen.findViewById(R.id.import_bundle).isEnabled();
        });
        assertEquals(1000, most[0]);
        String name = nameOf("encoder");
        assertTrue(text(screen, R.id.message), text(screen, R.id.message).startsWith(host.getString(R.string.bundles_done, name)));
        assertEquals(name, text(screen, R.id.encoder));
        assertTrue(text(screen, R.id.licence).contains("Not a medical device"));
        click(screen, R.id.back);
        assertTrue(screen.finished);
    }

    @Test
    public void aBundleThatWasChangedOrIsTooLargeIsRefusedInWords() throws Exception {
        File changed = new File(folder, "changed");
        copy(path("encoder"), changed);
        File largest = files(changed).stream().max((one, other) -> Long.compare(one.length(), other.length())).get();
        try (RandomAccessFile file = new RandomAccessFile(largest, "rw")) {
            file.seek(file.length() / 2);
            int before = file.read();
            file.seek(file.length() / 2);
            file.write(before ^ 1);
        }
        BundlesActivity screen = begin(BundlesActivity.class, null);
        picked(screen, ContentResolver.tree(changed));
        awaits(() -> screen.findViewById(R.id.import_bundle).isEnabled());
        String relative = changed.toPath().relativize(largest.toPath()).toString();
        assertEquals(host.getString(R.string.problem_file_changed, relative), text(screen, R.id.message));
        assertEquals(host.getString(R.string.bundles_none), text(screen, R.id.encoder));
        click(screen, R.id.discard);
        imports("encoder");
        BundlesActivity again = begin(BundlesActivity.class, null);
        HostActivityManager.available = 201_000_000L; // a megabyte is left
        picked(again, ContentResolver.tree(path("generator")));
        awaits(() -> again.findViewById(R.id.import_bundle).isEnabled());
        assertTrue(text(again, R.id.message), text(again, R.id.message).contains("too large for this phone"));
        assertEquals(nameOf("encoder"), text(again, R.id.encoder));
    }

    @Test
    public void aPictureIsScoredAndStaysWhenThePhoneIsTurned() throws Exception {
        imports("encoder");
        MainActivity screen = begin(MainActivity.class, null);
        assertTrue(shown(screen, R.id.empty));
        click(screen, R.id.open_first);
        assertEquals(Intent.ACTION_OPEN_DOCUMENT, screen.started.get(0).getAction());
        opens(screen);
        assertFalse(shown(screen, R.id.empty));
        assertNotNull(((ImageView) screen.findViewById(R.id.picture)).getDrawable());
        assertEquals(expectedRows(), rows(screen, R.id.scores));
        click(screen, R.id.save);
        awaits(() -> text(screen, R.id.message).startsWith("Saved as "));

        Activity turned = turn(screen, LYING);
        assertEquals(expectedRows(), rows(turned, R.id.scores));
        assertTrue(text(turned, R.id.scores_decision).contains(given.getAsJsonArray("scores").get(0).getAsJsonArray().get(0).getAsString()));
        opens(turned); // the same picture again: it is most similar to itself
        assertEquals(1, ((ViewGroup) turned.findViewById(R.id.similar)).getChildCount());
        assertTrue(rows(turned, R.id.similar).get(0), rows(turned, R.id.similar).get(0).endsWith(" 1.000"));
    }

    @Test
    public void afterTheProcessHasDiedThePictureIsScoredAnew() throws Exception {
        imports("encoder");
        MainActivity screen = begin(MainActivity.class, null);
        opens(screen);
        Bundle kept = screen.performStop();
        dies();
        MainActivity again = begin(MainActivity.class, kept);
        awaits(() -> shown(again, R.id.answers) && !app.getViewer().getWorking());
        assertEquals(expectedRows(), rows(again, R.id.scores));
        // Without anything kept, a start of the app begins without the last one's picture.
        again.performStop();
        dies();
        assertTrue(shown(begin(MainActivity.class, null), R.id.empty));
    }

    @Test
    public void withoutAModelThePictureShowsAndTheWayToOneIsAButton() throws Exception {
        MainActivity screen = begin(MainActivity.class, null);
        picked(screen, Uri.fromFile(path("picture")));
        awaits(() -> shown(screen, R.id.bundles_first));
        assertEquals(host.getString(R.string.bundles_none_encoder), text(screen, R.id.message));
        click(screen, R.id.bundles_first);
        assertEquals(BundlesActivity.class.getName(), screen.started.get(0).getComponent().getClassName());
        AskActivity asking = begin(AskActivity.class, null);
        asks(asking, "Anyone?");
        awaits(() -> text(asking, R.id.message).equals(host.getString(R.string.ask_no_model)));
    }

    @Test
    public void anAnswerGoesOnWhileThePhoneIsTurned() throws Exception {
        imports("generator");
        AskActivity screen = begin(AskActivity.class, null);
        assertTrue(shown(screen, R.id.empty));
        asks(screen, given.get("question").getAsString());
        assertTrue(shown(screen, R.id.stop));
        sees(() -> !answer(screen).isEmpty());
        String first = answer(screen);
        String all = given.get("answer").getAsString();
        assertTrue(first + " of " + all, all.startsWith(first) && first.length() < all.length());
        ((TextView) screen.findViewById(R.id.question)).setText("and then?");

        Activity turned = turn(screen, LYING);
        assertEquals("and then?", text(turned, R.id.question));
        awaits(() -> shown(turned, R.id.send));
        assertEquals(all, answer(turned));
        assertFalse(shown(turned, R.id.resume));
        click(turned, R.id.back);
        assertTrue(turned.finished);
        click(turned, R.id.clear);
        assertTrue(shown(turned, R.id.empty));
    }

    @Test
    public void theFirstQuestionTakesThePictureAlong() throws Exception {
        imports("encoder");
        imports("generator");
        MainActivity looking = begin(MainActivity.class, null);
        opens(looking);
        click(looking, R.id.ask);
        assertEquals(AskActivity.class.getName(), looking.started.get(0).getComponent().getClassName());
        looking.performStop();
        AskActivity screen = begin(AskActivity.class, null);
        asks(screen, given.get("question").getAsString());
        ViewGroup turns = (ViewGroup) screen.findViewById(R.id.conversation);
        assertEquals(host.getString(R.string.ask_with_picture), ((TextView) turns.getChildAt(0).findViewById(R.id.note)).getText().toString());
        awaits(() -> shown(screen, R.id.send));
        assertEquals(given.get("answerOfPicture").getAsString(), answer(screen));
    }

    @Test
    public void anAnswerThatDiedWithTheProcessIsThereAndGoesOn() throws Exception {
        imports("generator");
        AskActivity screen = begin(AskActivity.class, null);
        asks(screen, given.get("question").getAsString());
        sees(() -> !answer(screen).isEmpty());
        String first = answer(screen);
        Bundle kept = screen.performStop();
        dies();
        AskActivity again = begin(AskActivity.class, kept);
        assertEquals(first, answer(again));
        assertEquals(host.getString(R.string.ask_cut_off), note(again));
        click(again, R.id.resume);
        awaits(() -> shown(again, R.id.send));
        assertTrue(answer(again).startsWith(first) && answer(again).length() > first.length());
        assertEquals("", note(again));
    }

    @Test
    public void anAnswerIsStoppedByItsButtonAndMemoryIsGivenBack() throws Exception {
        imports("generator");
        AskActivity screen = begin(AskActivity.class, null);
        asks(screen, given.get("question").getAsString());
        click(screen, R.id.stop);
        awaits(() -> shown(screen, R.id.send));
        app.onTrimMemory(80); // TRIM_MEMORY_COMPLETE
        click(screen, R.id.clear);
        asks(screen, given.get("question").getAsString());
        awaits(() -> shown(screen, R.id.send));
        assertEquals(given.get("answer").getAsString(), answer(screen));
    }

    // What a person does

    private static void click(Activity screen, int id) {
        View view = screen.findViewById(id);
        assertTrue("a button that is not there", shown(view) && view.isEnabled());
        assertTrue(view.performClick());
        stage.arrange(stage.look().height * Stage.DENSITY);
    }

    private static void picked(Activity screen, Uri uri) {
        screen.performResult(1, Activity.RESULT_OK, new Intent().setData(uri));
    }

    private void opens(Activity screen) throws Exception {
        picked(screen, Uri.fromFile(path("picture")));
        awaits(() -> shown(screen, R.id.answers) && !app.getViewer().getWorking() && ((ViewGroup) screen.findViewById(R.id.scores)).getChildCount() > 0);
    }

    private static void asks(Activity screen, String question) {
        ((TextView) screen.findViewById(R.id.question)).setText(question);
        click(screen, R.id.send);
        assertEquals("", text(screen, R.id.question));
    }

    private void imports(String kind) throws Exception {
        BundlesActivity screen = begin(BundlesActivity.class, null);
        picked(screen, ContentResolver.tree(path(kind)));
        awaits(() -> screen.findViewById(R.id.import_bundle).isEnabled());
        assertTrue(text(screen, R.id.message), text(screen, R.id.message).contains(host.getString(R.string.bundles_done, nameOf(kind))));
        screen.performStop();
        screen.performDestroy();
    }

    // What Android does

    private <T extends Activity> T begin(Class<T> kind, Bundle state) throws Exception {
        T screen = stage.begin(kind, app, host, state);
        stage.arrange(stage.look().height * Stage.DENSITY);
        return screen;
    }

    private Activity turn(Activity screen, Look look) throws Exception {
        Bundle kept = screen.performStop();
        screen.performDestroy();
        stage.show(look, main());
        host.move(stage.context());
        return begin(screen.getClass(), kept);
    }

    /** The process ends: nothing in memory is left, and what ran writes no more. */
    private void dies() throws Exception {
        MedgeApp dead = app;
        dead.getModels().unload(dead.getAnswering());
        stage.show(UPRIGHT);
        host = new Host(stage.context(), folder, new HashMap<>());
        app = stage.application(MedgeApp.class, host);
    }

    private Handler main() throws ReflectiveOperationException {
        Field main = app.getModels().getClass().getDeclaredField("main");
        main.setAccessible(true);
        return (Handler) main.get(app.getModels());
    }

    /** Deliver message by message until this has come, and no further: what comes next is still on its way. */
    private static void sees(BooleanSupplier come) throws InterruptedException {
        assertTrue("it did not come", Handler_Delegate.deliverUntil(come, PATIENCE));
    }

    private static void awaits(BooleanSupplier come) throws InterruptedException {
        sees(come);
        stage.arrange(stage.look().height * Stage.DENSITY);
    }

    // What is on the screen

    private static boolean shown(Activity screen, int id) {
        return shown(screen.findViewById(id));
    }

    /** View.isShown asks for a window, too, which there is none of. */
    private static boolean shown(View view) {
        for (Object one = view; one instanceof View; one = ((View) one).getParent()) {
            if (((View) one).getVisibility() != View.VISIBLE) return false;
        }
        return true;
    }

    private static String text(Activity screen, int id) {
        return ((TextView) screen.findViewById(id)).getText().toString();
    }

    private static View lastTurn(Activity screen) {
        ViewGroup turns = (ViewGroup) screen.findViewById(R.id.conversation);
        return turns.getChildAt(turns.getChildCount() - 1);
    }

    private static String answer(Activity screen) {
        return ((TextView) lastTurn(screen).findViewById(R.id.text)).getText().toString();
    }

    private static String note(Activity screen) {
        return ((TextView) lastTurn(screen).findViewById(R.id.note)).getText().toString();
    }

    private static List<String> rows(Activity screen, int id) {
        ViewGroup rows = (ViewGroup) screen.findViewById(id);
        List<String> read = new ArrayList<>();
        for (int index = 0; index < rows.getChildCount(); index++) {
            View row = rows.getChildAt(index);
            StringBuilder line = new StringBuilder();
            for (int part : new int[] {R.id.label, R.id.much, R.id.numbers}) line.append(((TextView) row.findViewById(part)).getText()).append(' ');
            read.add(line.toString().trim());
        }
        return read;
    }

    private static List<String> expectedRows() {
        List<String> rows = new ArrayList<>();
        for (JsonElement one : given.getAsJsonArray("scores")) {
            JsonArray score = one.getAsJsonArray();
            String which = String.format("%.1f%%", 100 * score.get(1).getAsDouble());
            rows.add(score.get(0).getAsString() + " " + which + " Which of these " + which + " · Does it hold " + String.format("%.1f%%", 100 * score.get(2).getAsDouble()));
        }
        return rows;
    }

    // Files

    private static File path(String name) {
        return new File(given.get(name).getAsString());
    }

    private static String nameOf(String kind) throws Exception {
        return new JsonParser().parse(Files.readString(path(kind).toPath().resolve("manifest.json"))).getAsJsonObject().get("name").getAsString();
    }

    private static List<File> files(File folder) throws Exception {
        try (Stream<Path> found = Files.walk(folder.toPath())) {
            List<File> files = new ArrayList<>();
            found.filter(Files::isRegularFile).forEach(path -> files.add(path.toFile()));
            return files;
        }
    }

    private static void copy(File from, File to) throws Exception {
        for (File file : files(from)) {
            Path target = to.toPath().resolve(from.toPath().relativize(file.toPath()));
            Files.createDirectories(target.getParent());
            Files.copy(file.toPath(), target);
        }
    }
}
