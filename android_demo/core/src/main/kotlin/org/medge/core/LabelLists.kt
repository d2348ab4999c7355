package org.medge.core

import java.io.File

/** Lists of labels that the user has typed, a text file each. */
class LabelLists(private val folder: File) {
    /** Names, in order. */
    val names: List<String> get() = folder.listFiles().orEmpty().filter { it.extension == "txt" }.map { it.nameWithoutExtension }.sorted()

    /** The prompts of a list; see [LabelBank.promptsOf]. */
    fun read(name: String): Map<String, List<String>> = LabelBank.promptsOf(File(folder, "$name.txt").readText())

    /**
     * Keep a list under a name; what a file name can't hold is left out of it.
     *
     * @return the name that it got
     * @throws MedgeException no label
     */
    fun write(name: String, lines: String): String {
        val first = LabelBank.promptsOf(lines).keys.firstOrNull() ?: throw MedgeException(Problem.NO_LABELS)
        val safe = sequenceOf(name, first, "1").map(::fileName).first { it.isNotEmpty() }
        folder.mkdirs()
        File(folder, "$safe.txt").writeText(lines)
        return safe
    }

    private fun fileName(text: String): String = text.filter { it.isLetterOrDigit() || it in " -_" }.trim().take(40)

    fun delete(name: String) {
        File(folder, "$name.txt").delete()
    }
}
