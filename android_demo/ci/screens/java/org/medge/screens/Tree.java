package org.medge.screens;

import android.graphics.Rect;
import android.text.Layout;
import android.view.View;
import android.view.ViewGroup;
import android.widget.Button;
import android.widget.CompoundButton;
import android.widget.EditText;
import android.widget.ImageView;
import android.widget.ProgressBar;
import android.widget.ScrollView;
import android.widget.Spinner;
import android.widget.TextView;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;

/** What is on a screen, as facts that a test can judge. Lengths are in dp. */
final class Tree {
    private final Stage stage;
    private final JsonArray views = new JsonArray();

    private Tree(Stage stage) {
        this.stage = stage;
    }

    /** Every view that shows, in the order of drawing. */
    static JsonArray of(Stage stage) {
        Tree tree = new Tree(stage);
        View root = stage.root();
        tree.visit(root, -1, 0, 0, new Rect(0, 0, root.getWidth(), root.getHeight()), false);
        return tree.views;
    }

    private void visit(View view, int parent, int left, int top, Rect clip, boolean silent) {
        if (view.getVisibility() != View.VISIBLE || view.getAlpha() == 0) return;
        Rect box = new Rect(left, top, left + view.getWidth(), top + view.getHeight());
        Rect seen = new Rect(box);
        if (!seen.intersect(clip)) return;
        boolean hidden = silent || view.getImportantForAccessibility() == View.IMPORTANT_FOR_ACCESSIBILITY_NO_HIDE_DESCENDANTS;
        int index = views.size();
        views.add(facts(view, parent, box, seen, hidden));
        if (!(view instanceof ViewGroup)) return;
        ViewGroup group = (ViewGroup) view;
        for (int child = 0; child < group.getChildCount(); child++) {
            View inner = group.getChildAt(child);
            visit(inner, index, left + inner.getLeft() - group.getScrollX(), top + inner.getTop() - group.getScrollY(), seen, hidden);
        }
    }

    private JsonObject facts(View view, int parent, Rect box, Rect seen, boolean silent) {
        JsonObject facts = new JsonObject();
        facts.addProperty("parent", parent);
        facts.addProperty("kind", kindOf(view));
        facts.addProperty("id", stage.nameOf(view.getId()));
        facts.add("box", numbers(box));
        facts.add("seen", numbers(seen));
        facts.addProperty("clickable", view.isClickable());
        facts.addProperty("enabled", view.isEnabled());
        facts.addProperty("silent", silent || view.getImportantForAccessibility() == View.IMPORTANT_FOR_ACCESSIBILITY_NO);
        facts.addProperty("description", view.getContentDescription() == null ? null : view.getContentDescription().toString());
        if (view instanceof ScrollView && ((ScrollView) view).getChildCount() > 0) {
            facts.addProperty("more", dp(((ScrollView) view).getChildAt(0).getHeight() - view.getHeight()));
        }
        if (view instanceof ImageView) facts.addProperty("picture", ((ImageView) view).getDrawable() != null);
        if (view instanceof TextView) describe((TextView) view, facts);
        return facts;
    }

    private static void describe(TextView view, JsonObject facts) {
        facts.addProperty("text", view.getText().toString());
        facts.addProperty("hint", view.getHint() == null ? null : view.getHint().toString());
        facts.addProperty("size", view.getTextSize() / Stage.DENSITY);
        facts.addProperty("bold", view.getTypeface() != null && view.getTypeface().isBold());
        facts.addProperty("colour", String.format("#%08x", view.getText().length() > 0 ? view.getCurrentTextColor() : view.getCurrentHintTextColor()));
        Layout layout = view.getLayout();
        if (layout == null) return;
        facts.addProperty("lines", layout.getLineCount());
        int room = view.getHeight() - view.getTotalPaddingTop() - view.getTotalPaddingBottom();
        boolean low = layout.getHeight() > room + 1;
        boolean shortened = false;
        boolean wide = false;
        boolean broken = false;
        int breadth = view.getWidth() - view.getTotalPaddingLeft() - view.getTotalPaddingRight();
        for (int line = 0; line < layout.getLineCount(); line++) {
            shortened |= layout.getEllipsisCount(line) > 0;
            wide |= layout.getLineMax(line) > breadth + 1;
            int end = layout.getLineEnd(line);
            CharSequence text = layout.getText();
            broken |= line < layout.getLineCount() - 1 && end > 0 && end < text.length() && Character.isLetter(text.charAt(end - 1)) && Character.isLetter(text.charAt(end));
        }
        facts.addProperty("cut", low || wide || shortened);
        facts.addProperty("wordBroken", broken);
    }

    private static String kindOf(View view) {
        if (view instanceof EditText) return "field";
        if (view instanceof CompoundButton) return "switch";
        if (view instanceof Button) return "button";
        if (view instanceof Spinner) return "choice";
        if (view instanceof ProgressBar) return "bar";
        if (view instanceof ImageView) return view.isClickable() ? "button" : "picture";
        if (view instanceof TextView) return "text";
        return "group";
    }

    private static float dp(int pixels) {
        return pixels / (float) Stage.DENSITY;
    }

    private static JsonArray numbers(Rect box) {
        JsonArray numbers = new JsonArray();
        for (int side : new int[] {box.left, box.top, box.right, box.bottom}) numbers.add(dp(side));
        return numbers;
    }
}
