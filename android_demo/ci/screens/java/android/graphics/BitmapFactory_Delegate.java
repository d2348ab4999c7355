package android.graphics;

import android.content.res.BridgeResources.NinePatchInputStream;
import com.android.ninepatch.NinePatch;
import com.android.resources.Density;
import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import javax.imageio.ImageIO;

/** Pictures decoded by Java's ImageIO; unlike layoutlib's own, from bytes and files too, and with their size alone where that is asked for. */
final class BitmapFactory_Delegate {
    private BitmapFactory_Delegate() {}

    static Bitmap nativeDecodeStream(InputStream stream, byte[] storage, Rect padding, BitmapFactory.Options options) {
        Density density = options == null || options.inDensity == 0 ? Density.MEDIUM : Density.getEnum(options.inDensity);
        try {
            return stream instanceof NinePatchInputStream ? ninePatch((NinePatchInputStream) stream, padding, density) : picture(stream, options, density);
        } catch (IOException unreadable) {
            return null;
        }
    }

    private static Bitmap ninePatch(NinePatchInputStream stream, Rect padding, Density density) throws IOException {
        stream.disableFakeMarkSupport();
        NinePatch read = NinePatch.load(stream, true, false);
        Bitmap bitmap = Bitmap_Delegate.createBitmap(read.getImage(), true, density);
        bitmap.setNinePatchChunk(NinePatch_Delegate.serialize(read.getChunk()));
        if (padding != null) {
            int[] sides = read.getChunk().getPadding();
            padding.set(sides[0], sides[1], sides[2], sides[3]);
        }
        return bitmap;
    }

    private static Bitmap picture(InputStream stream, BitmapFactory.Options options, Density density) throws IOException {
        BufferedImage read = ImageIO.read(stream);
        if (read == null) return null;
        if (options != null) {
            options.outWidth = read.getWidth();
            options.outHeight = read.getHeight();
            if (options.inJustDecodeBounds) return null;
        }
        BufferedImage colours = new BufferedImage(read.getWidth(), read.getHeight(), BufferedImage.TYPE_INT_ARGB);
        // Grey levels as they are stored: drawing one picture into the other would change them.
        for (int y = 0; y < read.getHeight(); y++) {
            for (int x = 0; x < read.getWidth(); x++) {
                boolean grey = read.getRaster().getNumBands() == 1 && read.getColorModel().getPixelSize() == 8 && !(read.getColorModel() instanceof java.awt.image.IndexColorModel);
                int level = grey ? read.getRaster().getSample(x, y, 0) : 0;
                colours.setRGB(x, y, grey ? 0xff000000 | level * 0x010101 : read.getRGB(x, y));
            }
        }
        return Bitmap_Delegate.createBitmap(colours, true, density);
    }

    static Bitmap nativeDecodeByteArray(byte[] data, int offset, int length, BitmapFactory.Options options) {
        return nativeDecodeStream(new ByteArrayInputStream(data, offset, length), null, null, options);
    }

    static Bitmap nativeDecodeFileDescriptor(FileDescriptor descriptor, Rect padding, BitmapFactory.Options options) {
        return nativeDecodeStream(new FileInputStream(descriptor), null, padding, options);
    }

    static Bitmap nativeDecodeAsset(long asset, Rect padding, BitmapFactory.Options options) {
        return null;
    }

    static boolean nativeIsSeekable(FileDescriptor descriptor) {
        return true;
    }
}
