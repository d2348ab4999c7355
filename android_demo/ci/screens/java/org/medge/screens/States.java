package org.medge.screens;

import android.content.Context;
import android.graphics.Bitmap;
import android.view.View;
import android.widget.TextView;
import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.GradientPaint;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.geom.Arc2D;
import java.awt.geom.Ellipse2D;
import java.awt.image.BufferedImage;
import java.io.File;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.medge.app.Answering;
import org.medge.app.AskActivity;
import org.medge.app.BundlesActivity;
import org.medge.app.MainActivity;
import org.medge.app.MedgeApp;
import org.medge.app.PhoneKt;
import org.medge.app.ProblemsKt;
import org.medge.app.R;
import org.medge.app.Viewer;
import org.medge.core.Decision;
import org.medge.core.Finding;
import org.medge.core.Hit;
import org.medge.core.MedgeException;
import org.medge.core.Problem;
import org.medge.core.Says;
import org.medge.core.Score;

/** The states that matter of every screen: the app's own activities, with what their models would have said put in its place. */
final class States {
    private static final List<String> LABELS = Arrays.asList("pleural effusion", "cardiomegaly", "pneumonia", "rib fracture",
        "consolidation of the right lower lobe with air bronchograms", "pneumothorax", "atelectasis", "hiatus hernia");
    private static final float[] PROBABILITIES = {0.957f, 0.883f, 0.412f, 0.301f, 0.118f, 0.043f, 0.021f, 0.004f};
    private static final Says[] SAID = {
        Says.PRESENT, Says.PRESENT, Says.UNCERTAIN, Says.NOT_CALIBRATED, Says.ABSENT, Says.ABSENT, Says.ABSENT, Says.ABSENT};
    private static final Map<String, String> QUESTION = Map.of("en", "What does this picture show?", "fr", "Que montre cette image ?",
        "es", "¿Qué muestra esta imagen?", "pt", "O que mostra esta imagem?", "sw", "Picha hii inaonyesha nini?");
    private static final Map<String, String> ANSWER = Map.of(
        "en", "A frontal chest radiograph. The left costophrenic angle is blunted, which fits a small pleural effusion. The heart is enlarged.",
        "fr", "Une radiographie du thorax de face. Le cul-de-sac costo-diaphragmatique gauche est émoussé, ce qui est compatible avec un petit"
            + " épanchement pleural. Le cœur est augmenté de volume ; l'index cardio-thoracique est estimé à 0,58. Les apex sont libres."
            + " Cette description ne remplace pas la lecture d'un radiologue.",
        "es", "Una radiografía de tórax de frente. El ángulo costofrénico izquierdo está borrado, compatible con un pequeño derrame pleural.",
        "pt", "Uma radiografia do tórax de frente. O ângulo costofrénico esquerdo está apagado, compatível com um pequeno derrame pleural.",
        "sw", "Picha ya eksirei ya kifua kutoka mbele. Pembe ya chini ya pafu la kushoto imefifia, jambo linaloendana na maji kidogo.");

    private final Stage stage;
    private final Host host;
    private final MedgeApp app;

    private States(Stage stage, Host host) throws Exception {
        this.stage = stage;
        this.host = host;
        app = stage.application(MedgeApp.class, host);
    }

    static void show(Stage stage, String state, Host host) throws Exception {
        States states = new States(stage, host);
        switch (state) {
            case "empty": case "nomodel": case "working": case "unreadable": case "scores": case "calibrated": case "uncertain": case "unlike":
            case "similar":
                states.main(state);
                break;
            case "labels":
                states.labels();
                break;
            case "ask": case "asknone": case "reading": case "streaming": case "answered": case "stopped": case "hot": case "lowmemory":
                states.ask(state);
                break;
            case "bundles": case "models": case "storage": case "importing": case "checking": case "refused":
                states.bundles(state);
                break;
            default: throw new IllegalArgumentException("no state " + state);
        }
    }

    private void main(String state) throws Exception {
        Viewer viewer = app.getViewer();
        MainActivity screen = stage.begin(MainActivity.class, app, host, null);
        if (state.equals("empty")) return;
        set(viewer, "thumbnail", radiograph());
        switch (state) {
            case "nomodel": viewer.fail(problem(Problem.NO_MANIFEST)); return;
            case "unreadable":
                set(viewer, "thumbnail", null);
                viewer.fail(problem(Problem.DICOM_TRANSFER_SYNTAX, "1.2.840.10008.1.2.4.90"));
                return;
            case "working":
                set(viewer, "working", true);
                set(viewer, "message", host.getString(R.string.working));
                break;
            default: scored(viewer, state);
        }
        viewer.attach(() -> {
            try {
                java.lang.reflect.Method show = MainActivity.class.getDeclaredMethod("show");
                show.setAccessible(true);
                show.invoke(screen);
            } catch (ReflectiveOperationException error) {
                throw new IllegalStateException(error);
            }
            return kotlin.Unit.INSTANCE;
        });
    }

    private void scored(Viewer viewer, String state) throws Exception {
        set(viewer, "embedding", new float[] {1});
        List<Score> scores = new ArrayList<>();
        List<Finding> findings = new ArrayList<>();
        float rest = 1;
        for (int index = 0; index < LABELS.size(); index++) {
            float share = rest * 0.62f;
            rest -= share;
            scores.add(new Score(LABELS.get(index), 0.31f - 0.02f * index, share, PROBABILITIES[index] * 0.8f));
            Says says = state.equals("uncertain") ? (index < 2 ? Says.UNCERTAIN : Says.ABSENT) : SAID[index];
            findings.add(new Finding(LABELS.get(index), says, says == Says.NOT_CALIBRATED ? null : Double.valueOf(PROBABILITIES[index])));
        }
        set(viewer, "scores", scores);
        boolean unlike = state.equals("unlike");
        if (!state.equals("scores")) set(viewer, "decision", new Decision(unlike, 3.2, unlike ? "" : "chest radiograph", findings, null));
        if (state.equals("similar")) {
            set(viewer, "similar", Arrays.asList(new Hit("2026-11-02 08:14:55", 0.971f), new Hit("2026-10-30 16:02:11", 0.902f), new Hit("2026-10-12 11:47:30", 0.644f)));
            set(viewer, "message", host.getString(R.string.saved, "2026-11-02 08:14:55"));
        }
    }

    private void labels() throws Exception {
        MainActivity screen = stage.begin(MainActivity.class, app, host, null);
        screen.setContentView(R.layout.labels);
        ((TextView) screen.findViewById(R.id.lines)).setText(String.join("\n", LABELS.subList(0, 3)));
    }

    private void ask(String state) throws Exception {
        Answering answering = app.getAnswering();
        String question = QUESTION.get(stage.look().language);
        String answer = ANSWER.get(stage.look().language);
        File picture = null;
        if (!state.equals("ask")) {
            picture = new File(host.getFilesDir(), "conversation/picture-0");
            Files.write(picture.toPath(), new byte[] {1});
            answering.getConversation().ask(question, picture);
        }
        switch (state) {
            case "asknone": set(answering, "message", host.getString(R.string.ask_no_model)); break;
            case "reading":
                set(answering, "running", true);
                set(answering, "reading", true);
                set(answering, "message", host.getString(R.string.ask_reading));
                break;
            case "streaming":
                set(answering, "running", true);
                answering.getConversation().write(answer.substring(0, answer.length() / 2), false);
                break;
            case "answered": answering.getConversation().write(answer, true); break;
            case "stopped": answering.getConversation().write(answer.substring(0, answer.length() / 2), false); break;
            case "hot":
                set(answering, "running", true);
                answering.getConversation().write(answer.substring(0, answer.length() / 3), false);
                set(answering, "message", ProblemsKt.explain(host, problem(Problem.TOO_HOT)));
                break;
            case "lowmemory":
                answering.getConversation().write(answer.substring(0, answer.length() / 3), false);
                set(answering, "message", ProblemsKt.explain(host, problem(Problem.LOW_MEMORY)));
                break;
            default:
        }
        AskActivity screen = stage.begin(AskActivity.class, app, host, null);
        if (state.equals("answered")) ((TextView) screen.findViewById(R.id.question)).setText(question);
    }

    private void bundles(String state) throws Exception {
        set(BundlesActivity.class, "importing", state.equals("importing") || state.equals("checking"));
        set(BundlesActivity.class, "failed", state.equals("refused"));
        set(BundlesActivity.class, "share", state.equals("checking") ? 1000 : 437);
        set(BundlesActivity.class, "message", messageOf(state));
        if (!state.equals("bundles")) installed("encoder", "medsiglip-448 int8", 872_000_000L);
        if (state.equals("models") || state.equals("refused")) installed("generator", "medgemma-4b-it q3_k_m", 1_940_000_000L);
        if (state.equals("storage")) {
            installed("generator", "medgemma-4b-it q4_k_m", 2_490_000_000L);
            host.getSharedPreferences(PhoneKt.SETTINGS, Context.MODE_PRIVATE).edit().putLong(PhoneKt.STORAGE_SPEED, 850_000_000L).apply();
        }
        stage.begin(BundlesActivity.class, app, host, null);
    }

    private String messageOf(String state) {
        switch (state) {
            case "importing": return host.getString(R.string.bundles_copying, "language.q4_k_m.gguf", 1088L, 2490L);
            case "checking": return host.getString(R.string.bundles_checking);
            case "refused": return ProblemsKt.explain(host, problem(Problem.TOO_LARGE, "medgemma-27b-it q4_k_m", 18_400L, 2_880L));
            default: return "";
        }
    }

    /** A bundle's folder with a manifest that is right, and nothing else. */
    private void installed(String kind, String name, long bytes) throws Exception {
        boolean encoder = kind.equals("encoder");
        String model = encoder
            ? "{\"embedding_size\": 1152, \"image_size\": 448, \"patch_size\": 14, \"tokenizer\": {\"length\": 64, \"end_id\": 1, \"pad_id\": 1},"
                + " \"logit_scale\": 110.0, \"logit_bias\": -12.0, \"parameters\": 878000000}"
            : "{\"parameters\": 4300000000, \"layers\": 34, \"width\": 2560, \"kv_heads\": 4, \"head_size\": 256, \"window\": 1024, \"global_every\": 6,"
                + " \"context_length\": 8192, \"vocabulary\": 262144, \"image_size\": 896, \"image_tokens\": 256, \"patch_size\": 14}";
        String format = encoder ? "onnx" : "gguf";
        String tower = encoder ? "vision" : "language";
        String body = "{\n  \"format_version\": 2, \"kind\": \"" + kind + "\", \"name\": \"" + name + "\", \"target\": \"arm-dotprod\","
            + " \"licence\": \"Health AI Developer Foundations terms of use. Not a medical device.\", \"model\": " + model
            + ", \"artefacts\": {\"" + format + "\": {\"parity\": {\"status\": \"passed\", \"warnings\": []}, \"towers\": {\"" + tower
            + "\": {\"recipe\": \"int8\", \"file\": \"model\", \"format\": \"" + format
            + "\", \"golden\": {\"statistic\": \"min\", \"cosine\": 0.99}, \"inputs\": [\"pixels\"], \"output\": \"embedding\"}}}},"
            + " \"files\": [{\"path\": \"model\", \"role\": \"" + tower + "\", \"bytes\": " + bytes + ", \"sha256\": \"" + "0".repeat(64) + "\"}]";
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(body.getBytes(StandardCharsets.UTF_8));
        StringBuilder hexadecimal = new StringBuilder();
        for (byte one : digest) hexadecimal.append(String.format("%02x", one));
        File place = new File(host.getFilesDir(), "bundles/" + kind);
        File folder = new File(place, "it");
        Files.createDirectories(folder.toPath());
        Files.writeString(new File(folder, "manifest.json").toPath(), body + ",\n  \"digest\": \"" + hexadecimal + "\"\n}\n");
        Files.writeString(new File(place, "current").toPath(), "it");
    }

    /** Something like a radiograph of a chest, drawn here. */
    private static Bitmap radiograph() {
        int side = 640;
        BufferedImage image = new BufferedImage(side, side, BufferedImage.TYPE_INT_ARGB);
        Graphics2D pen = image.createGraphics();
        pen.setRenderingHint(RenderingHints.KEY_ANTIALIASING, RenderingHints.VALUE_ANTIALIAS_ON);
        pen.setPaint(new GradientPaint(0, 0, new Color(120, 120, 120), 0, side, new Color(190, 190, 190)));
        pen.fillRect(0, 0, side, side);
        pen.setColor(new Color(30, 30, 30));
        pen.fill(new Ellipse2D.Double(90, 90, 200, 440));
        pen.fill(new Ellipse2D.Double(350, 90, 200, 400));
        pen.setColor(new Color(200, 200, 200, 90));
        pen.setStroke(new BasicStroke(16, BasicStroke.CAP_ROUND, BasicStroke.JOIN_ROUND));
        for (int rib = 0; rib < 7; rib++) {
            pen.draw(new Arc2D.Double(70, 60 + 60 * rib, 250, 150, 20, 150, Arc2D.OPEN));
            pen.draw(new Arc2D.Double(320, 60 + 60 * rib, 250, 150, 10, 150, Arc2D.OPEN));
        }
        pen.setColor(new Color(225, 225, 225));
        pen.fillRoundRect(296, 0, 48, side, 20, 20);
        pen.setColor(new Color(205, 205, 205, 235));
        pen.fill(new Ellipse2D.Double(270, 290, 220, 210));
        pen.dispose();
        int[] colours = image.getRGB(0, 0, side, side, null, 0, side);
        return Bitmap.createBitmap(colours, side, side, Bitmap.Config.ARGB_8888);
    }

    private static MedgeException problem(Problem problem, Object... arguments) {
        return new MedgeException(problem, arguments, null);
    }

    private static void set(Object where, String name, Object value) throws ReflectiveOperationException {
        Class<?> kind = where instanceof Class ? (Class<?>) where : where.getClass();
        Field field = kind.getDeclaredField(name);
        field.setAccessible(true);
        field.set(where instanceof Class ? null : where, value);
    }
}
