package org.medge.core

import com.google.gson.JsonObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.File

class PlannerTest {
    private val gemma4b = GeneratorFacts(4_300_000_000, 34, 2560, 4, 256, 1024, 6, 131_072, 262_208, 896, 256, 14)

    private fun reader(bytes: Long, facts: GeneratorFacts = gemma4b, name: String = "reader", projector: FileEntry? = null): Manifest {
        val bound = GoldenBound("min", 0.999)
        val towers = mapOf("language" to TowerFacts("q4_k_m", "a.gguf", "gguf", bound)) +
            listOfNotNull(projector).map { "projector" to TowerFacts("fast", it.path, "onnx", bound) }
        val files = listOfNotNull(FileEntry("a.gguf", "language", bytes, ""), projector)
        return Manifest(Kind.GENERATOR, name, null, "arm-dotprod", "0".repeat(64), "", "passed", emptyList(), null, facts, towers, files)
    }

    @Test
    fun memoryOfAFourBillionModelIsWhatItsShapesSay() {
        val need = Planner.need(gemma4b, 2_900_000_000, 4096)
        // Five of 34 layers keep all 4096 positions, the others 1024 and a batch of 256; keys and values of 4 x 256 in 16 bits.
        assertEquals((5L * 4096 + 29L * 1280) * 4 * 256 * 2 * 2, need.cache)
        // The batch: 12 hidden vectors and a row of logits for each of its tokens; more than the tower's 4096 patches take.
        assertEquals(256L * (2560 * 4 * 12 + 262_208L * 4), need.working)
    }

    @Test
    fun aTowerInOnnxIsCountedBesideTheLanguageModel() {
        val inside = Planner.need(gemma4b, 0, 4096)
        assertEquals(4096L * 1152 * 4 * 45, Planner.need(gemma4b, 0, 4096, onnx = true).working - inside.working)
        val plan = Planner.plan(reader(1_500_000_000, projector = FileEntry("b.onnx", "projector", 500_000_000, "")), phone(16.0))
        assertEquals(2_000_000_000, plan.need.weights)
        assertTrue(plan.need.working > inside.working)
    }

    @Test
    fun theContextShrinksUntilTheModelFits() {
        val device = phone(8.0)
        val plan = Planner.plan(reader(2_600_000_000), device)
        assertTrue(plan.fits)
        assertEquals(4096, plan.context)
        assertEquals(Cache.F16, plan.cache)
        val tight = Planner.plan(reader(3_050_000_000), device)
        assertTrue(tight.context < 4096)
        assertTrue(tight.fits)
    }

    @Test
    fun theCacheIsInEightBitsBeforeTheContextIsShortened() {
        val whole = Planner.need(gemma4b, 0, 4096).total
        val small = Planner.need(gemma4b, 0, 4096, cache = Cache.Q8_0)
        assertEquals((5L * 4096 + 29L * 1280) * 4 * 256 * 17 / 8, small.cache)
        val between = phone(8.0).room - (whole + small.total) / 2
        val plan = Planner.plan(reader(between), phone(8.0))
        assertEquals(Cache.Q8_0, plan.cache)
        assertEquals(4096, plan.context)
        assertTrue(plan.fits)
        // Heads of 80 numbers are no multiple of a block.
        val odd = GeneratorFacts(4_300_000_000, 34, 2560, 4, 80, 1024, 6, 131_072, 262_208, 896, 256, 14)
        assertEquals(Cache.F16, Planner.plan(reader(5_000_000_000, odd), phone(8.0)).cache)
    }

    @Test
    fun whatMemoryDoesNotHoldRunsFromStorage() {
        val rest = Planner.need(gemma4b, 0, 4096, cache = Cache.Q8_0).total
        fun plan(room: Long, storage: Long = 0) =
            Planner.plan(reader(2_600_000_000), Device(8_000_000_000, ((rest + room) / Device.RESERVE).toLong() + 1, 8, "arm64-v8a", setOf("asimd"), storage))
        val half = plan(1_300_000_000, storage = 500_000_000)
        assertEquals(Fit.FROM_STORAGE, half.fit)
        assertFalse(half.fits)
        assertEquals(half, half.checked())
        assertEquals(4096, half.context)
        assertTrue(half.readAgain in 1_300_000_000..2_600_000_000)
        assertEquals(half.readAgain * Storage.SLOWER / 500_000_000, half.secondsAToken!!, 1e-9)
        assertNull(plan(1_300_000_000).secondsAToken) // nobody has measured that phone's storage
        // Less room is more to read again, and eight bits of cache leave more room.
        val fifth = plan(500_000_000)
        assertTrue(fifth.readAgain > half.readAgain)
        assertEquals(Cache.Q8_0, fifth.cache)
        val whole = plan(2_600_000_000)
        assertEquals(Fit.IN_MEMORY, whole.fit)
        assertEquals(0, whole.readAgain)
    }

    @Test
    fun readingAgainIsBetweenWhatWasMeasured() {
        assertEquals(0.0, Storage.readAgain(1.5), 0.0)
        val (high, less) = Storage.READ_AGAIN[1]
        val (low, more) = Storage.READ_AGAIN[2]
        assertEquals(less, Storage.readAgain(high), 1e-9)
        assertEquals((less + more) / 2, Storage.readAgain((high + low) / 2), 1e-9)
        assertEquals(Storage.READ_AGAIN.last().second, Storage.readAgain(Storage.LEAST_SHARE / 2), 1e-9)
        val file = File(temporaryFolder(), "weights").apply { writeBytes(ByteArray(3_000_000)) }
        assertTrue(Storage.speed(file) > 1_000_000)
    }

    @Test
    fun onlyAMappedFileStaysInStorage() {
        // An encoder's towers, and a vision tower, are read into memory: this one alone takes more than there is.
        val plan = Planner.plan(reader(500_000_000, projector = FileEntry("b.onnx", "projector", 2_000_000_000, "")), phone(4.0))
        assertEquals(Fit.NOT_AT_ALL, plan.fit)
        assertEquals(0, plan.readAgain)
    }

    @Test
    fun aModelThatCannotRunIsRefusedWithBothNumbers() {
        val error = assertProblem(Problem.TOO_LARGE) { Planner.plan(reader(16_000_000_000), phone(4.0)).checked() }
        assertEquals(3, error.arguments.size)
        assertTrue(error.message!!.contains("1800"))
    }

    @Test
    fun theLargestThatFitsIsChosen() {
        val offers = listOf(reader(4_300_000_000, name = "q8"), reader(2_600_000_000, name = "q4"), reader(1_900_000_000, name = "q3"))
        assertEquals("q4", Planner.choose(offers, phone(8.0))!!.name)
        assertEquals("q8", Planner.choose(offers, phone(16.0))!!.name)
        assertNull(Planner.choose(offers, phone(3.0)))
    }

    @Test
    fun variantsFollowTheFeaturesOfTheProcessor() {
        assertEquals("v8", phone(4.0, "fp asimd").llamaVariant)
        assertEquals("v8_2_dotprod", phone(4.0).llamaVariant)
        assertEquals("v8_2_dotprod_i8mm", phone(4.0, "fp asimd asimddp i8mm").llamaVariant)
        assertEquals("v8", phone(4.0, "fp asimd i8mm").llamaVariant)
        assertNull(Device(1, 1, 4, "armeabi-v7a", setOf("neon")).llamaVariant)
        assertEquals(setOf("fp", "asimd"), Device.featuresOf("processor : 0\nFeatures\t: fp asimd\nFeatures\t: fp asimd\n"))
        assertEquals(4, phone(4.0).threads)
        assertEquals(1, Device(1, 1, 1, "arm64-v8a", emptySet()).threads)
    }

    @Test
    fun heatAndMemoryDecideWhatGoesOn() {
        assertEquals(listOf(Relief.GO_ON, Relief.GO_ON, Relief.SLOW_DOWN, Relief.PAUSE, Relief.PAUSE), (0..4).map { Pressure.ofHeat(it) })
        assertEquals(2, Pressure.threads(Relief.SLOW_DOWN, 4))
        assertEquals(1, Pressure.threads(Relief.SLOW_DOWN, 1))
        assertEquals(4, Pressure.threads(Relief.GO_ON, 4))
        assertEquals(Relief.GO_ON, Pressure.ofMemory(20, answering = false)) // the screen was left, no more
        assertEquals(Relief.UNLOAD, Pressure.ofMemory(15, answering = true))
        assertEquals(Relief.UNLOAD, Pressure.ofMemory(60, answering = false))
        assertEquals(Relief.GO_ON, Pressure.ofMemory(60, answering = true))
    }

    @Test
    fun everyProblemHasAsManyPlaceholdersAsItsSentence() {
        for (problem in Problem.values()) {
            val places = Regex("%(\\d)\\\$s").findAll(problem.english).map { it.groupValues[1].toInt() }.toSet()
            assertEquals(problem.name, (1..places.size).toSet(), places)
            val sentence = problem.sentence(*Array<Any>(places.size) { "x" })
            assertFalse(sentence, '%' in sentence)
        }
    }

    /** The plans of a real phone's sizes, for benchmarks/android.py: `-Dmedge.phones` names bundles to plan and a file to write. */
    @Test
    fun plansForTheReadme() {
        val file = given("medge.phones")
        val asked = parseJson(file.readText()) as JsonObject
        val out = JsonObject()
        for (manifest in asked.list("manifests")!!.map { Manifest.parse(it.asString.toByteArray()) }) {
            val rows = com.google.gson.JsonArray()
            for (size in asked.list("gigabytes")!!.map { it.asDouble }) {
                val plan = Planner.plan(manifest, phone(size))
                rows.add(
                    JsonObject().apply {
                        addProperty("gigabytes", size)
                        addProperty("room", plan.room)
                        addProperty("need", plan.need.total)
                        addProperty("weights", plan.need.weights)
                        addProperty("cache", plan.need.cache)
                        addProperty("working", plan.need.working)
                        addProperty("context", plan.context)
                        addProperty("fit", plan.fit.name)
                        addProperty("read_again", plan.readAgain)
                    },
                )
            }
            out.add(manifest.name, rows)
        }
        asked.add("plans", out)
        file.writeText(asked.toString())
        assertNotNull(out)
        assertTrue(out.size() > 0)
    }
}
