package org.medge.app

import android.content.ContentResolver
import android.net.Uri
import android.provider.DocumentsContract
import org.medge.core.BundleSource
import org.medge.core.skipFully
import java.io.FileNotFoundException
import java.io.IOException
import java.io.InputStream

/** A bundle in a folder that the user has picked: on a USB stick, a memory card, or from another app. */
class TreeSource(private val resolver: ContentResolver, private val tree: Uri) : BundleSource {
    private val known = HashMap<String, String>() // path to document id

    override fun open(path: String, offset: Long): InputStream {
        try {
            val uri = DocumentsContract.buildDocumentUriUsingTree(tree, document(path))
            val stream = resolver.openInputStream(uri) ?: throw FileNotFoundException(path)
            stream.skipFully(offset)
            return stream
        } catch (error: SecurityException) { // the stick is gone, and the permission with it
            throw IOException(error)
        } catch (error: IllegalArgumentException) { // the provider no longer knows the document
            throw IOException(error)
        }
    }

    /** The id of a file's document, found folder by folder. */
    private fun document(path: String): String {
        if (path.isEmpty()) return DocumentsContract.getTreeDocumentId(tree)
        return known.getOrPut(path) {
            val parent = document(path.substringBeforeLast('/', ""))
            val children = DocumentsContract.buildChildDocumentsUriUsingTree(tree, parent)
            val columns = arrayOf(DocumentsContract.Document.COLUMN_DOCUMENT_ID, DocumentsContract.Document.COLUMN_DISPLAY_NAME)
            resolver.query(children, columns, null, null, null)?.use { rows ->
                while (rows.moveToNext()) if (rows.getString(1) == path.substringAfterLast('/')) return@getOrPut rows.getString(0)
            }
            throw FileNotFoundException(path)
        }
    }
}
