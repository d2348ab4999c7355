package org.medge.app

import android.app.Activity
import android.view.View

// With a stated type, the same source compiles whether android.jar has the generic findViewById (from API 26 on) or not.

/** The view with this id. */
fun Activity.view(id: Int): View = findViewById(id)

/** The view with this id, within this one. */
fun View.view(id: Int): View = findViewById(id)
