package org.medge.screens;

/** How a screen is looked at: its size in dp, pixels for each, theme, language and size of text. */
final class Look {
    final int width;
    final int height;
    final boolean night;
    final String language;
    final float fontScale;

    private Look(int width, int height, boolean night, String language, float fontScale) {
        this.width = width;
        this.height = height;
        this.night = night;
        this.language = language;
        this.fontScale = fontScale;
    }

    /** Such as 320x480-dark-fr-1.5. */
    static Look of(String text) {
        String[] parts = text.split("-");
        String[] size = parts[0].split("x");
        return new Look(Integer.parseInt(size[0]), Integer.parseInt(size[1]), parts[1].equals("dark"), parts[2], Float.parseFloat(parts[3]));
    }
}
