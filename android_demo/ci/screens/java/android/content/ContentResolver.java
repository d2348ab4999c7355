package android.content;

import android.database.Cursor;
import android.database.MatrixCursor;
import android.net.Uri;
import android.provider.DocumentsContract;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.InputStream;

/** Files of this machine, as Android's picker would give them: file:// for one, and a tree of documents whose ids are paths for a folder. */
public class ContentResolver {
    public static final String SCHEME_CONTENT = "content";
    public static final String SCHEME_FILE = "file";

    public ContentResolver(Context context) {}

    /** The address that the picker gives of a folder. */
    public static Uri tree(File folder) {
        return new Uri.Builder().scheme(SCHEME_CONTENT).authority("host").appendPath("tree").appendPath(folder.getPath()).build();
    }

    public final InputStream openInputStream(Uri uri) throws FileNotFoundException {
        return new FileInputStream(SCHEME_FILE.equals(uri.getScheme()) ? uri.getPath() : DocumentsContract.getDocumentId(uri));
    }

    public final Cursor query(Uri uri, String[] columns, String where, String[] values, String order) {
        MatrixCursor rows = new MatrixCursor(columns);
        File[] files = new File(DocumentsContract.getDocumentId(uri)).listFiles();
        if (files != null) for (File file : files) rows.addRow(new Object[] {file.getPath(), file.getName()});
        return rows;
    }

    public int getUserId() {
        return 0;
    }

    public String getPackageName() {
        return "org.medge.app";
    }
}
