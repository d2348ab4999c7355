package org.medge.core

import com.google.gson.JsonObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.File

class EncoderTest {
    private val tolerance = 1e-5f

    @Test
    fun embeddingsScoresAndTopLabelsAreThoseOfPython() {
        val golden = GoldenFiles.encoder()
        val tensors = golden.tensors("images.safetensors")
        val count = golden.index.int("images")!!
        val prompts = golden.index.child("labels")!!.entrySet().associate { (name, value) -> name to value.asJsonArray.map { it.asString } }
        val embeddings = rowsOf(tensors["embeddings"])
        val cosine = rowsOf(tensors["cosine"])
        val softmax = rowsOf(tensors["softmax"])
        val sigmoid = rowsOf(tensors["sigmoid"])
        Encoder(golden.bundle, 1).use { encoder ->
            val bank = LabelBank(prompts, rowsOf(tensors["bank"]))
            for (index in 0 until count) {
                val embedding = encoder.embed(imageOf(tensors["image.%04d".format(index)]))
                assertClose(embeddings[index], embedding, tolerance)
                val scores = encoder.score(embedding, bank)
                assertClose(cosine[index], FloatArray(scores.size) { scores[it].cosine }, tolerance)
                // A logit is the cosine times the scale: half a scale's worth of the tolerance is what a probability can move.
                val bound = (tolerance * golden.bundle.manifest.encoder!!.logitScale / 4).toFloat().coerceAtLeast(tolerance)
                assertClose(softmax[index], FloatArray(scores.size) { scores[it].softmax!! }, bound)
                assertClose(sigmoid[index], FloatArray(scores.size) { scores[it].sigmoid!! }, bound)
                assertEquals("image $index", top(cosine[index]), top(FloatArray(scores.size) { scores[it].cosine }))
            }
        }
        assertTrue("$count images", count >= 200)
    }

    private fun top(values: FloatArray): Int = values.indices.maxByOrNull { values[it] }!!

    @Test
    fun textsAndBanksAreThoseOfPython() {
        val golden = GoldenFiles.encoder()
        val tensors = golden.tensors("images.safetensors")
        val prompts = golden.index.child("labels")!!.entrySet().associate { (name, value) -> name to value.asJsonArray.map { it.asString } }
        Encoder(golden.bundle, 1).use { encoder ->
            val expected = rowsOf(tensors["prompt_embeddings"])
            prompts.values.flatten().forEachIndexed { index, prompt -> assertClose(expected[index], encoder.embed(prompt), tolerance) }
            // A bank is made by the bundle's own text tower; the baked one was made in full precision.
            var row = 0
            encoder.bank(prompts).embeddings.zip(prompts.values) { embedding, texts ->
                val mean = FloatArray(embedding.size) { column -> texts.indices.sumOf { expected[row + it][column].toDouble() }.toFloat() }
                val length = kotlin.math.sqrt(mean.sumOf { it.toDouble() * it }).toFloat()
                assertClose(FloatArray(mean.size) { mean[it] / length }, embedding, tolerance)
                row += texts.size
            }
            assertEquals(expected.size, row)
            val baked = encoder.bakedLabels!!
            assertEquals(prompts.keys.toList(), baked.names)
            rowsOf(tensors["bank"]).forEachIndexed { index, known -> assertClose(known, baked.embeddings[index], tolerance) }
        }
    }

    @Test
    fun aFittedProbeGivesPythonsProbabilities() {
        val golden = GoldenFiles.encoder()
        val tensors = golden.tensors("images.safetensors")
        val probe = Probe.load(given("medge.probe"), golden.bundle.manifest.fingerprint)
        val expected = rowsOf(tensors["probabilities"])
        rowsOf(tensors["embeddings"]).forEachIndexed { index, embedding -> assertClose(expected[index], probe.predict(embedding), tolerance) }
        assertProblem(Problem.PROBE_OF_OTHER_BUNDLE) { Probe.load(given("medge.probe"), "another") }
    }

    @Test
    fun thisMachineComputesWhatTheBundlePromises() {
        val bundle = GoldenFiles.encoder().bundle
        Encoder(bundle, 1).use { Golden.replay(it) }
        Encoder(bundle, 1).use { assertTrue(Golden.imageCosine(it) >= bundle.manifest.towers.getValue("vision").golden.cosine) }
    }

    @Test
    fun aBoundIsHeldAgainstTheLeastOrTheMean() {
        val cosines = listOf(0.5f, 1f, 0.75f)
        assertEquals(0.5f, GoldenBound("min", 0.9).of(cosines), 0f)
        assertEquals(0.75f, GoldenBound("mean", 0.9).of(cosines), 0f)
    }

    @Test
    fun aPhoneThatComputesSomethingElseIsNoticed() {
        val source = GoldenFiles.encoder().bundle.folder
        val copy = temporaryFolder()
        source.copyRecursively(copy, overwrite = true)
        val golden = Bundle.open(copy).path("golden")!!
        val bytes = golden.readBytes()
        val header = parseJson(String(bytes, 8, bytes[0].toInt() and 0xff or (bytes[1].toInt() and 0xff shl 8))) as JsonObject
        val (from, to) = header.child("image_embeddings")!!.list("data_offsets")!!.map { it.asInt }
        val start = 8 + (bytes[0].toInt() and 0xff or (bytes[1].toInt() and 0xff shl 8))
        for (index in start + from until start + to step 4) bytes[index + 3] = (bytes[index + 3].toInt() xor 0x80).toByte() // the signs
        golden.writeBytes(bytes)
        Encoder(Bundle.open(copy), 1).use { encoder -> assertProblem(Problem.COMPUTES_DIFFERENTLY) { Golden.replay(encoder) } }
        copy.deleteRecursively()
    }

    @Test
    fun aModelThatIsNoneIsRefusedInWords() {
        val copy = temporaryFolder()
        GoldenFiles.encoder().bundle.folder.copyRecursively(copy, overwrite = true)
        Bundle.open(copy).path("vision")!!.writeText("nonsense")
        Encoder(Bundle.open(copy), 1).use { encoder ->
            assertProblem(Problem.ENGINE_REFUSES) { encoder.embedPrepared(FloatArray(3 * 112 * 112)) }
        }
        copy.deleteRecursively()
    }

    @Test
    fun aSingleLabelIsNotCertain() {
        val facts = GoldenFiles.encoder().bundle.manifest.encoder!!
        val towards = unitLength(floatArrayOf(1f, 0.2f))
        val bank = LabelBank(mapOf("pneumonia" to listOf("pneumonia")), arrayOf(unitLength(floatArrayOf(-1f, 1f))))
        val alone = score(towards, bank, facts).single()
        assertEquals(null, alone.softmax)
        assertEquals(sigmoid(alone.cosine.toDouble() * facts.logitScale + facts.logitBias), alone.sigmoid!!, 0f)
    }

    @Test
    fun probabilitiesAddUpAndSurviveExtremes() {
        assertClose(floatArrayOf(0f, 1f), softmax(doubleArrayOf(-1e4, 1e4)), 0f)
        assertEquals(1f, softmax(doubleArrayOf(1.0, 2.0, 3.0)).sum(), 1e-6f)
        assertEquals(0f, sigmoid(-1e6), 1e-30f)
        assertEquals(0.5f, sigmoid(0.0), 0f)
        assertClose(floatArrayOf(0f, 0f), unitLength(floatArrayOf(0f, 0f)), 0f)
    }

    @Test
    fun typedLabelsGetTheTemplatesOfPython() {
        val prompts = LabelBank.promptsOf(" pneumonia \n\nnormal\npneumonia\n")
        assertEquals(listOf("pneumonia", "normal"), prompts.keys.toList())
        assertEquals(listOf("pneumonia", "an image of pneumonia", "a medical image showing pneumonia"), prompts["pneumonia"])
        assertProblem(Problem.NO_LABELS) { LabelBank.build(emptyMap()) { FloatArray(1) } }
    }

    @Test
    fun savedImagesAreFoundAgainEvenAfterAPowerCut() {
        val file = File(temporaryFolder(), "index")
        val index = VectorIndex(file, "here", 3)
        index.add("a", floatArrayOf(1f, 0f, 0f))
        index.add("b", floatArrayOf(0f, 1f, 0f))
        index.add("a", floatArrayOf(0f, 0f, 1f))
        assertEquals(listOf("a", "b"), index.search(floatArrayOf(0f, 0.1f, 0.9f), 5).map { it.name })
        val whole = file.length()
        file.appendBytes(byteArrayOf(0, 1, 'c'.code.toByte(), 0, 0))
        val again = VectorIndex(file, "here", 3)
        assertEquals(2, again.size)
        assertEquals(whole, file.length())
        again.add("c", floatArrayOf(1f, 0f, 0f))
        assertEquals("c", VectorIndex(file, "here", 3).search(floatArrayOf(1f, 0f, 0f), 1).single().name)
        assertProblem(Problem.INDEX_OF_OTHER_BUNDLE) { VectorIndex(file, "there", 3) }
    }

    @Test
    fun tensorsThatLieAboutTheirSizeAreRefused() {
        val file = File.createTempFile("tensors", ".safetensors").apply { deleteOnExit() }
        val header = """{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,999999]}}"""
        file.writeBytes(byteArrayOf(header.length.toByte(), 0, 0, 0, 0, 0, 0, 0) + header.toByteArray() + ByteArray(16))
        assertProblem(Problem.TENSORS_DAMAGED) { SafeTensors(file) }
        file.writeBytes(ByteArray(3))
        assertProblem(Problem.TENSORS_DAMAGED) { SafeTensors(file) }
        file.writeBytes(ByteArray(8) { -1 } + ByteArray(8))
        assertProblem(Problem.TENSORS_DAMAGED) { SafeTensors(file) }
    }

    @Test
    fun providersThatThisMachineLacksAreLeftOut() {
        val bundle = GoldenFiles.encoder().bundle
        var time = 0.0
        val measured = ProviderTrial.measure(bundle, 1, listOf("cpu", "nnapi")) { time += 0.5; time }
        assertEquals(listOf("cpu"), measured.map { it.provider })
        assertEquals(0.5, measured[0].seconds, 1e-9)
        assertEquals("cpu", ProviderTrial.choose(bundle, 1, listOf("cpu", "nnapi")))
    }

    @Test
    fun theFastestHonestProviderIsChosen() {
        val cpu = Measured("cpu", 1.0, 1f)
        assertEquals("cpu", ProviderChoice.choose(listOf(cpu, Measured("xnnpack", 0.95, 1f)), 0.999))
        assertEquals("xnnpack", ProviderChoice.choose(listOf(cpu, Measured("xnnpack", 0.8, 0.9999f), Measured("nnapi", 0.2, 0.9f)), 0.999))
        assertNotEquals("nnapi", ProviderChoice.choose(listOf(cpu, Measured("nnapi", 0.1, Float.NaN)), 0.999))
        assertNull(Device(1, 1, 1, "mips", emptySet()).llamaVariant)
    }
}
