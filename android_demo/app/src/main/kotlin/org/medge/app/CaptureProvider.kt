package org.medge.app

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.database.Cursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import java.io.File
import java.io.FileNotFoundException

/**
 * The place where the camera app writes its picture: in this app's cache, not in the gallery, where a patient's picture would be seen by
 * every other app. Nobody but whom the intent grants it can open it.
 */
class CaptureProvider : ContentProvider() {
    override fun onCreate(): Boolean = true

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        val here = context ?: throw FileNotFoundException()
        if (uri != uriOf(here)) throw FileNotFoundException(uri.path)
        return ParcelFileDescriptor.open(file(here), ParcelFileDescriptor.parseMode(mode))
    }

    override fun getType(uri: Uri): String = "image/jpeg"

    override fun query(uri: Uri, columns: Array<String>?, where: String?, values: Array<String>?, order: String?): Cursor? = null

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun delete(uri: Uri, where: String?, values: Array<String>?): Int = 0

    override fun update(uri: Uri, values: ContentValues?, where: String?, arguments: Array<String>?): Int = 0

    companion object {
        fun uriOf(context: Context): Uri = Uri.parse("content://${context.packageName}.capture/picture.jpg")

        fun file(context: Context): File = File(context.cacheDir, "capture.jpg")
    }
}
