import CoreML
import XCTest

@testable import MedgeKit

/// The picture that runtime/golden/phantom.py draws, to the bit.
func phantom(height: Int, width: Int) -> RGBImage {
    var bytes: [UInt8] = []
    for y in 0..<height {
        for x in 0..<width {
            let (dx, dy, radius) = (x - width / 3, y - height / 2, height / 3)
            let disc = dx * dx + dy * dy < radius * radius ? 120 : 0
            let noise = ((x * 1_103_515_245 + y * 12345 + x * y * 69069) >> 7) & 31
            let grey = min(disc + x * 255 / width / 2 + noise, 255)
            bytes += [UInt8(grey), UInt8(min(grey + y * 40 / height, 255)), UInt8(255 - grey)]
        }
    }
    return RGBImage(width: width, height: height, bytes: bytes)
}

/// `phantom` in 16 bits, with low bytes of their own; sums beyond 65535 start again at 0.
func phantom16(height: Int, width: Int) -> RGB16Image {
    let eight = phantom(height: height, width: width).bytes
    let values = eight.indices.map { UInt16(eight[$0]) * 257 &+ UInt16($0 / 3 % width % 97) }
    return RGB16Image(width: width, height: height, values: values)
}

/// Golden pictures through this package: pixels as in Python, the embedding of the bundle's own within the recipe's gate.
final class GoldenTests: XCTestCase {
    struct Golden: Codable {
        let width: Int
        let height: Int
        let pixels: String  // base64 of the resized image
        let embedding: [Float]
        let leastCosine: Float
        let side: Int
        let pictures: [Picture]
    }

    /// A drawn picture, and what a profile makes of it.
    struct Picture: Codable {
        let height: Int
        let width: Int
        let bits: Int
        let profile: String
        let pixels: String  // base64
    }

    private func golden() throws -> Golden {
        let url = try XCTUnwrap(Bundle.module.url(forResource: "golden", withExtension: "json"))
        return try JSONDecoder().decode(Golden.self, from: Data(contentsOf: url))
    }

    /// The folder `coreml` of the bundle, in which this Swift package lies.
    private var folder: URL {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../..").standardizedFileURL
    }

    private func bytes(_ base64: String) throws -> [UInt8] { [UInt8](try XCTUnwrap(Data(base64Encoded: base64))) }

    func testEveryProfileGivesPythonsPixelsToTheBit() throws {
        let golden = try golden()
        XCTAssertFalse(golden.pictures.isEmpty)
        for picture in golden.pictures {
            let profile = try XCTUnwrap(Profile(rawValue: picture.profile))
            let (height, width) = (picture.height, picture.width)
            let resized = picture.bits == 8
                ? profile.resize(phantom(height: height, width: width), side: golden.side)
                : profile.resize(phantom16(height: height, width: width), side: golden.side)
            let name = "\(picture.profile), \(width) x \(height), \(picture.bits) bits"
            XCTAssertEqual(resized.bytes, try bytes(picture.pixels), name)
        }
    }

    func testPixelsAreThoseOfPython() throws {
        let golden = try golden()
        let bank = try LabelBank.load(folder.appendingPathComponent("bank.json"))
        let profile = try XCTUnwrap(Profile(rawValue: bank.profile))
        let resized = profile.resize(phantom(height: golden.height, width: golden.width), side: bank.imageSize)
        XCTAssertEqual(resized.bytes, try bytes(golden.pixels))
    }

    func testEmbeddingAgrees() throws {
        let golden = try golden()
        let bank = try LabelBank.load(folder.appendingPathComponent("bank.json"))
        let compiled = try MLModel.compileModel(at: folder.appendingPathComponent("MedgeVision.mlpackage"))
        let classifier = try Classifier(package: compiled, bank: bank)
        let embedding = try classifier.embed(phantom(height: golden.height, width: golden.width))
        let cosine = zip(embedding, golden.embedding).reduce(Float(0)) { $0 + $1.0 * $1.1 }
        XCTAssertGreaterThanOrEqual(cosine, golden.leastCosine)
    }
}
