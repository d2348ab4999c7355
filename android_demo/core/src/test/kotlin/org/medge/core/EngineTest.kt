package org.medge.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.junit.Test
import java.io.File
import java.util.concurrent.CancellationException

class EngineTest : GoldenEngine() {
    /** The text is tokenized anew, which gives the same tokens for ordinary text. */
    @Test
    fun anAnswerThatWasCutOffIsFinishedAsIfItHadNotBeen() {
        val golden = GoldenFiles.generator()
        val row = answers(golden).first { it.text("image") == null && it.list("tokens")!!.size() > 6 }
        val question = Turn(true, row.text("question")!!)
        open(golden, vision = false).use { engine ->
            val chat = chat(golden, engine)
            val whole = chat.answer(chat.prompt(listOf(question)) { throw AssertionError() }, 8) { true }.first
            val half = chat.answer(chat.prompt(listOf(question)) { throw AssertionError() }, 4) { true }.first
            val prompt = chat.prompt(listOf(question, Turn(false, half, complete = false))) { throw AssertionError() }
            assertEquals(whole, chat.answer(prompt, 4, begun = half) { true }.first)
        }
    }

    @Test
    fun textIsCutEachStepAndAnImageIsAStepOfItsOwn() {
        val picture = Picture(ByteArray(3), 1, 16)
        val text = List(5) { Token(it) }
        assertEquals(emptyList<Int>(), cuts(emptyList()))
        assertEquals(listOf(2, 4, 5), cuts(text, 2))
        assertEquals(listOf(3, 4, 7, 9), cuts(text.take(3) + picture + text, 3))
        // The rest of a prompt, from any of its cuts on, is cut at the same places.
        val prompt = text + picture + picture + text + text + picture
        val all = cuts(prompt, 4)
        for ((index, place) in all.withIndex()) assertEquals(all.drop(index + 1), cuts(prompt.drop(place), 4).map { it + place })
    }

    /** Kernels round by the number of tokens that go through together, so what is kept of a prompt must end where a step does. */
    @Test
    fun whatWasAskedBeforeChangesNoAnswer() {
        val golden = GoldenFiles.generator()
        val rows = answers(golden)
        val images = golden.tensors("answers.safetensors")
        open(golden).use { engine ->
            val chat = chat(golden, engine)
            for (row in rows.reversed() + rows.flatMap { listOf(it, it) }) {
                val prompt = chat.prompt(turns(row)) { imageOf(images[it.path]) }
                val tokens = ArrayList<Int>()
                engine.generate(prompt, row.int("limit")!!) { tokens.add(it) }
                assertEquals(row.text("question"), row.list("tokens")!!.map { it.asInt }, tokens)
            }
        }
    }

    @Test
    fun weightsThatStayInTheirFileAnswerAlike() {
        val golden = GoldenFiles.generator()
        val language = golden.bundle.path("language")!!
        Engine(language, golden.bundle.eyes, 1024, threads, fromStorage = true, load = load).use { engine ->
            Golden.replay(engine, chat(golden, engine), golden.bundle)
            val maps = File("/proc/self/maps")
            if (maps.canRead()) assertTrue(maps.readText().contains(language.canonicalPath))
        }
    }

    @Test
    fun textThatNamesControlTokensIsText() {
        val golden = GoldenFiles.generator()
        open(golden, vision = false).use { engine ->
            assertTrue(engine.holdsControlToken("a <end_of_turn> b"))
            assertFalse(engine.holdsControlToken("a < b"))
            val prompt = chat(golden, engine).prompt(listOf(Turn(true, "a <end_of_turn> b"))) { throw AssertionError() }
            val end = engine.tokenize("<end_of_turn>", special = true).single()
            assertEquals(1, prompt.count { it == Token(end) })
        }
    }

    @Test
    fun thisMachineSaysWhatTheBundlePromises() {
        val golden = GoldenFiles.generator()
        open(golden).use { Golden.replay(it, chat(golden, it), golden.bundle) }
        // A model that sees something else is noticed: the projector of the same bundle, its weights scrambled.
        val copy = temporaryFolder()
        golden.bundle.folder.copyRecursively(copy, overwrite = true)
        val bundle = Bundle.open(copy)
        val projector = bundle.path("projector")!!
        projector.writeBytes(projector.readBytes().also { for (at in it.size / 2 until it.size step 3) it[at] = 0x3c })
        Engine(bundle.path("language")!!, bundle.eyes, 512, threads, load = load).use { engine ->
            assertProblem(Problem.COMPUTES_DIFFERENTLY) { Golden.replay(engine, chat(golden, engine), bundle) }
        }
        copy.deleteRecursively()
    }

    /** A bundle whose vision tower is an ONNX file with patches merged; its answers are Python's, and so is what is seen. */
    @Test
    fun aTowerInOnnxSaysWhatPythonSays() {
        val golden = GoldenFiles(given("medge.merged"))
        assertEquals("onnx", golden.bundle.eyes!!.facts.format)
        assertAnswersAreThoseOfPython(golden)
        // The tower of this model beside another one is noticed before anything is read past its end.
        val other = GoldenFiles(given("medge.small")).bundle
        Engine(other.path("language")!!, golden.bundle.eyes, 512, threads, load = load).use { engine ->
            val facts = golden.bundle.manifest.generator!!
            val picture = Picture(ByteArray(facts.imageSize * facts.imageSize * 3), facts.imageSize, facts.imageTokens)
            val error = assertProblem(Problem.ANSWER_FAILED) { engine.generate(listOf(Token(2), picture, Token(5)), 1) { true } }
            assertTrue(error.message!!.contains("another model's"))
        }
    }

    @Test
    fun cancellingEndsAnAnswerAndTheNextOneIsRight() {
        val golden = GoldenFiles.generator()
        val row = answers(golden).first { it.text("image") == null }
        open(golden, vision = false).use { engine ->
            val prompt = chat(golden, engine).prompt(turns(row)) { throw AssertionError() }
            var count = 0
            try {
                engine.generate(prompt, 100) {
                    if (++count == 2) Thread { engine.cancel() }.apply { start(); join() }
                    true
                }
                fail("it was not cancelled")
            } catch (_: CancellationException) {
                assertEquals(2, count)
            }
            val tokens = ArrayList<Int>()
            engine.generate(prompt, row.int("limit")!!) { tokens.add(it) }
            assertEquals(row.list("tokens")!!.map { it.asInt }, tokens)
        }
    }

    @Test
    fun promptsThatAreTooLongAndImagesForABlindModelEndInWords() {
        val golden = GoldenFiles.generator()
        open(golden, vision = false).use { engine ->
            val error = assertProblem(Problem.CONTEXT_FULL) { engine.generate(List(1100) { Token(5) }, 1) { true } }
            assertEquals(77, error.arguments.single())
            assertProblem(Problem.TEXT_ONLY) { engine.generate(listOf(Token(2), Picture(ByteArray(3), 1, 1)), 1) { true } }
        }
        val nonsense = File.createTempFile("model", ".gguf").apply { writeText("nonsense") }
        val blind = golden.bundle.eyes!!.let { Eyes(nonsense, it.facts, it.normalisation) }
        assertProblem(Problem.ENGINE_REFUSES) { Engine(nonsense, null, 512, 1, load = load).close() }
        assertProblem(Problem.ENGINE_REFUSES) { Engine(golden.bundle.path("language")!!, blind, 512, 1, load = load).close() }
    }
}
