package org.medge.app

import android.app.ActivityManager
import android.content.Context
import android.os.Build
import android.os.PowerManager
import android.os.Process
import org.medge.core.Device
import java.io.File

/** What this phone is, as core's planner wants to know it. */
fun Context.device(): Device {
    val memory = ActivityManager.MemoryInfo()
    (getSystemService(Context.ACTIVITY_SERVICE) as ActivityManager).getMemoryInfo(memory)
    val abis = if (Process.is64Bit()) Build.SUPPORTED_64_BIT_ABIS else Build.SUPPORTED_32_BIT_ABIS
    val features = File("/proc/cpuinfo").takeIf { it.canRead() }?.let { Device.featuresOf(it.readText()) }.orEmpty()
    val storage = getSharedPreferences(SETTINGS, Context.MODE_PRIVATE).getLong(STORAGE_SPEED, 0)
    return Device(
        memory.totalMem, memory.availMem - memory.threshold, Runtime.getRuntime().availableProcessors(), abis.first(), features, storage,
    )
}

/** Where [Models] keeps what it has tried on this phone, and in it bytes a second that storage gives. */
const val SETTINGS = "models"
const val STORAGE_SPEED = "storage"

/** PowerManager.THERMAL_STATUS_*; 0 where the system does not tell, before Android 10. */
fun Context.thermalStatus(): Int {
    if (Build.VERSION.SDK_INT < 29) return 0
    val power = getSystemService(Context.POWER_SERVICE) as PowerManager
    // By reflection, so that the same source builds against an older android.jar.
    return PowerManager::class.java.getMethod("getCurrentThermalStatus").invoke(power) as Int
}
