package org.medge.screens;

import android.view.View;
import android.view.ViewGroup;
import android.widget.ScrollView;
import com.google.gson.JsonObject;
import java.awt.image.BufferedImage;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.HashMap;
import javax.imageio.ImageIO;

/**
 * Draws screens: layoutlib's folder, the app's resources, a folder for what is drawn, and names such as scores-320x480-dark-fr-1.5.
 *
 * Of each it writes NAME.png, the screen as it stands; NAME-whole.png, a screen so tall that all can be seen; and NAME.json, the views of both.
 */
public final class Draw {
    private static final int TALLEST = 12_000;

    private Draw() {}

    public static void main(String[] arguments) throws Exception {
        Stage stage = new Stage(new File(arguments[0]), new File(arguments[1]));
        File out = new File(arguments[2]);
        for (int index = 3; index < arguments.length; index++) {
            int dash = arguments[index].indexOf('-');
            draw(stage, arguments[index].substring(0, dash), Look.of(arguments[index].substring(dash + 1)), new File(out, arguments[index]));
        }
        stage.close();
        System.exit(0);
    }

    private static void draw(Stage stage, String state, Look look, File out) throws Exception {
        File folder = Files.createTempDirectory("medge-screen").toFile();
        try {
            stage.show(look);
            States.show(stage, state, new Host(stage.context(), folder, new HashMap<>()));
            int height = look.height * Stage.DENSITY;
            stage.arrange(height);
            JsonObject facts = new JsonObject();
            facts.add("screen", Tree.of(stage));
            write(stage.draw(), out + ".png");
            int more = more(stage.root());
            if (more > 0) stage.arrange(Math.min(TALLEST, height + more));
            facts.add("whole", Tree.of(stage));
            write(stage.draw(), out + "-whole.png");
            Files.write(new File(out + ".json").toPath(), facts.toString().getBytes(StandardCharsets.UTF_8));
        } finally {
            remove(folder);
        }
    }

    /** How many pixels the longest of the scrolled parts lacks. */
    private static int more(View view) {
        int most = 0;
        if (view instanceof ScrollView) most = ((ScrollView) view).getChildAt(0).getHeight() - view.getHeight() + view.getPaddingTop() + view.getPaddingBottom();
        if (view instanceof ViewGroup && view.getVisibility() == View.VISIBLE) {
            for (int child = 0; child < ((ViewGroup) view).getChildCount(); child++) most = Math.max(most, more(((ViewGroup) view).getChildAt(child)));
        }
        return most;
    }

    private static void write(BufferedImage image, String path) throws Exception {
        ImageIO.write(image, "png", new File(path));
    }

    private static void remove(File file) {
        File[] inner = file.listFiles();
        if (inner != null) for (File one : inner) remove(one);
        file.delete();
    }
}
