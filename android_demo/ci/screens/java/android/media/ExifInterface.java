package android.media;

/** Every picture is upright here: Android's reader of these tags is native code. */
public class ExifInterface {
    public static final String TAG_ORIENTATION = "Orientation";

    public ExifInterface(String path) {}

    public int getAttributeInt(String tag, int otherwise) {
        return otherwise;
    }
}
