package org.medge.core

import com.google.gson.JsonObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.File

/** Opens what `medge golden` names; the prompts and answers are Python's. */
abstract class GoldenEngine {
    internal val load = { System.load(given("medge.llama").path) }

    /** No more threads than processors: they would spin, waiting for each other, and an emulated one takes minutes more. */
    internal val threads = Runtime.getRuntime().availableProcessors().coerceAtMost(2)

    internal fun open(golden: GoldenFiles, vision: Boolean = true) = Engine(
        golden.bundle.path("language")!!, golden.bundle.eyes.takeIf { vision }, 1024, threads, load = load,
    )

    internal fun answers(golden: GoldenFiles) = golden.list("answers.json").map { it as JsonObject }

    internal fun chat(golden: GoldenFiles, engine: Engine) = Chat(engine, golden.bundle.manifest)

    internal fun turns(row: JsonObject) = listOf(Turn(true, row.text("question")!!, row.text("image")?.let { File(it) }))

    /** Every prompt and answer is Python's token by token, and so, as numbers, is what is seen of an image. */
    internal fun assertAnswersAreThoseOfPython(golden: GoldenFiles) {
        val images = golden.tensors("answers.safetensors")
        var seen = 0
        open(golden).use { engine ->
            val chat = chat(golden, engine)
            Golden.replay(engine, chat, golden.bundle)
            for (row in answers(golden)) {
                val prompt = chat.prompt(turns(row)) { imageOf(images[it.path]) }
                assertEquals(row.text("question"), row.list("prompt")!!.map { it.asInt }, prompt.map { if (it is Token) it.id else -1 })
                val tokens = ArrayList<Int>()
                val (text, _) = chat.answer(prompt, row.int("limit")!!) { true }
                engine.generate(prompt, row.int("limit")!!) { tokens.add(it) }
                assertEquals(row.text("question"), row.list("tokens")!!.map { it.asInt }, tokens)
                assertEquals(row.text("text"), text)
                if (row.text("image") != null) seen++
            }
        }
        assertTrue("an image question is among them", seen >= 2)
    }
}

/** Runs on an emulated ARM processor as well. */
class AnswersTest : GoldenEngine() {
    @Test
    fun promptsAndAnswersAreThoseOfPythonTokenByToken() = assertAnswersAreThoseOfPython(GoldenFiles.generator())
}
