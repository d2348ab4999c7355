package org.medge.app

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import android.media.ExifInterface
import android.net.Uri
import org.medge.core.Dicom
import org.medge.core.JpegDecoder
import org.medge.core.MedgeException
import org.medge.core.Pixels
import org.medge.core.Problem
import java.io.File
import java.io.IOException

/** Pictures from files: whatever Android decodes, and core's part of DICOM. */
object Pictures {
    private val jpeg = JpegDecoder { bytes -> BitmapFactory.decodeByteArray(bytes, 0, bytes.size, options())?.let(::pixelsOf) }

    /**
     * Read a picture as the model should see it: upright, every pixel.
     *
     * @throws MedgeException none that can be read, or too large
     */
    fun read(file: File): Pixels {
        val head = file.inputStream().use { stream -> ByteArray(132).also { stream.read(it) } }
        if (Dicom.marks(head)) return Dicom.read(file, jpeg = jpeg)
        val bounds = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        BitmapFactory.decodeFile(file.path, bounds)
        Pixels.checkSize(bounds.outWidth, bounds.outHeight)
        val bitmap = BitmapFactory.decodeFile(file.path, options()) ?: throw MedgeException(Problem.IMAGE_UNREADABLE)
        return pixelsOf(upright(bitmap, file))
    }

    /** A small bitmap to show. */
    fun thumbnail(pixels: Pixels, side: Int): Bitmap {
        val step = maxOf(1, maxOf(pixels.width, pixels.height) / side)
        val width = pixels.width / step
        val height = pixels.height / step
        val colours = IntArray(width * height) { index ->
            val at = 3 * ((index / width * step) * pixels.width + index % width * step)
            (0xff shl 24) or (pixels[at] shl 16) or (pixels[at + 1] shl 8) or pixels[at + 2]
        }
        return Bitmap.createBitmap(colours, width, height, Bitmap.Config.ARGB_8888)
    }

    /** Copy what a picker has given into the app's own storage; pickers' permissions end with the activity. */
    fun copy(resolver: ContentResolver, uri: Uri, target: File) {
        val next = File(target.path + ".next")
        try {
            val input = resolver.openInputStream(uri) ?: throw MedgeException(Problem.IMAGE_UNREADABLE)
            input.use { from -> next.outputStream().use { from.copyTo(it) } }
        } catch (error: IOException) {
            throw MedgeException(Problem.IMAGE_UNREADABLE, cause = error)
        } catch (error: SecurityException) {
            throw MedgeException(Problem.IMAGE_UNREADABLE, cause = error)
        }
        next.renameTo(target)
    }

    private fun options() = BitmapFactory.Options().apply {
        inPremultiplied = false // colours as they are stored
        inScaled = false
    }

    private fun upright(bitmap: Bitmap, file: File): Bitmap {
        val turn = Matrix()
        val tag = try { ExifInterface(file.path).getAttributeInt(ExifInterface.TAG_ORIENTATION, 1) } catch (_: IOException) { 1 }
        when (tag) {
            ExifInterface.ORIENTATION_FLIP_HORIZONTAL -> turn.setScale(-1f, 1f)
            ExifInterface.ORIENTATION_ROTATE_180 -> turn.setRotate(180f)
            ExifInterface.ORIENTATION_FLIP_VERTICAL -> turn.setScale(1f, -1f)
            ExifInterface.ORIENTATION_TRANSPOSE -> { turn.setRotate(90f); turn.postScale(-1f, 1f) }
            ExifInterface.ORIENTATION_ROTATE_90 -> turn.setRotate(90f)
            ExifInterface.ORIENTATION_TRANSVERSE -> { turn.setRotate(-90f); turn.postScale(-1f, 1f) }
            ExifInterface.ORIENTATION_ROTATE_270 -> turn.setRotate(-90f)
            else -> return bitmap
        }
        return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, turn, false)
    }

    private fun pixelsOf(bitmap: Bitmap): Pixels =
        Pixels.ofArgb(bitmap.width, bitmap.height) { y, row -> bitmap.getPixels(row, 0, bitmap.width, 0, y, bitmap.width, 1) }
}
